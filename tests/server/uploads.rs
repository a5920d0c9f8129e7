//! Files from a visitor: what is good becomes a style set or an adapter, what is not changes nothing.

use super::studio::{Answer, Studio};
use app::api::*;
use axum::{
    body::Body,
    http::{Request, header},
};
use futures::StreamExt;
use image::{ImageFormat, RgbImage};
use std::{
    io::{Cursor, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use zip::{ZipWriter, write::SimpleFileOptions};

#[tokio::test(flavor = "multi_thread")]
async fn loose_pictures_with_captions_become_a_set() {
    let studio = Studio::open().await;
    let form = Form::default().field("name", "My lakes").file("a.png", &picture(1)).file("b.jpg", &jpeg(2)).file("b.txt", b"a lake\n");
    let set: DatasetInfo = form.send(&studio, "dataset").await.ok().json();
    let captions: Vec<_> = set.items.iter().map(|item| (item.file_name.as_str(), item.caption.as_str(), item.width, item.height)).collect();
    assert_eq!(captions, [("a.png", "", 64, 48), ("b.jpg", "a lake", 64, 48)]);
    assert_eq!((set.name.as_str(), set.trigger.as_deref()), ("My lakes", None));
    let file = studio.get(&format!("/files/datasets/{}/{}", set.id, set.items[0].id)).await.ok();
    assert_eq!((file.body, file.headers["content-type"].to_str().unwrap()), (picture(1), "image/png"));
    studio.get(&format!("/files/datasets/{}/{}/thumb", set.id, set.items[1].id)).await.ok();

    studio.api().set_trigger(set.id.clone(), "in oil".into()).await.unwrap();
    studio.api().set_caption(set.id.clone(), set.items[0].id.clone(), "a\n hill, in oil".into()).await.unwrap();
    // The same picture again is no second one.
    let more = Form::default().field("dataset", &set.id.0).file("again.png", &picture(1)).file("c.png", &picture(3));
    let set: DatasetInfo = more.send(&studio, "dataset").await.ok().json();
    let captions: Vec<_> = set.items.iter().map(|item| item.caption.as_str()).collect();
    assert_eq!(captions, ["a hill, in oil", "a lake, in oil", "in oil"]);
    assert_eq!(set.trigger.as_deref(), Some("in oil"));
    studio.api().delete_dataset(set.id.clone()).await.unwrap();
    assert_eq!(studio.api().dataset(set.id).await.unwrap_err().status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_becomes_a_set_and_a_plain_form_lands_on_its_page() {
    let studio = Studio::open().await;
    let metadata = br#"{"file_name": "one.png", "text": "a lake"}"#;
    let zip = zip(&[("set/one.png", &picture(1)), ("set/two.png", &picture(2)), ("set/metadata.jsonl", metadata)]);
    let form = Form::default().field("trigger", "in oil").file("Lakes.zip", &zip);
    let answer = form.send_accepting(&studio, "dataset", "text/html,application/xhtml+xml").await;
    let set = studio.api().datasets().await.unwrap().remove(0);
    assert_eq!(
        (answer.status.as_u16(), answer.headers["location"].to_str().unwrap()),
        (303, format!("/train?dataset={}", set.id).as_str())
    );
    assert_eq!(set.name, "Lakes");
    assert_eq!(set.items.iter().map(|item| item.caption.as_str()).collect::<Vec<_>>(), ["a lake, in oil", "in oil"]);

    let empty = Form::default().file("", b"").send_accepting(&studio, "dataset", "text/html").await;
    assert!(empty.headers["location"].to_str().unwrap().starts_with("/train?error=No+files"), "{:?}", empty.headers);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_files_are_refused_in_a_sentence_and_nothing_stays() {
    let studio = Studio::open().await;
    let truncated = &jpeg(1)[..400];
    let many: Vec<(String, Vec<u8>)> = (0..100_000).map(|i| (format!("{i}.txt"), Vec::new())).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let cases: Vec<(&str, Form, u16, &str)> = vec![
        ("text", Form::default().file("a.png", b"no picture"), 422, "PNG, JPEG or WebP"),
        ("truncated", Form::default().file("a.jpg", truncated), 422, "a.jpg"),
        ("bomb", Form::default().file("a.png", &bomb()), 422, "a.png"),
        ("climbing", Form::default().file("a.zip", &zip(&[("../../evil.png", &picture(1))])), 422, "plain file names"),
        ("many", Form::default().file("a.zip", &zip(&many)), 422, "entries"),
        ("no zip", Form::default().file("a.zip", b"PK no zip"), 422, "zip"),
        ("nothing", Form::default().field("name", "x"), 422, "No files"),
        ("hidden", Form::default().file(".htaccess", b"x"), 422, "rename it"),
        ("twice", Form::default().file("a.png", &picture(1)).file("A.PNG", &picture(2)), 422, "Two files"),
        ("unknown set", Form::default().field("dataset", "../x").file("a.png", &picture(1)), 404, "no style set"),
        ("long name", Form::default().field("name", &"x".repeat(81)).file("a.png", &picture(1)), 422, "at most 80"),
    ];
    for (case, form, status, words) in cases {
        println!("{case}");
        form.send(&studio, "dataset").await.refused(status, words);
    }
    assert!(studio.api().datasets().await.unwrap().is_empty());
    for folder in [studio.state.jobs.store.blobs.folder("datasets"), studio.state.jobs.store.blobs.folder("../incoming")] {
        assert!(std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_larger_than_allowed_is_refused_while_it_comes() {
    let studio = Studio::open().await;
    let chunk = vec![7_u8; 1 << 20];
    let head = Form::head("files", "a.png");
    let endless = futures::stream::iter(std::iter::once(head).chain(std::iter::repeat_n(chunk, 600)).map(Ok::<_, std::io::Error>));
    request(&studio, "dataset", "application/json", Body::from_stream(endless)).await.refused(413, "512 MiB");
    assert!(studio.api().datasets().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_does_not_end_is_refused_after_its_first_bytes() {
    let studio = Studio::open().await;
    let read = Arc::new(AtomicUsize::new(0));
    let counted = read.clone();
    let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\n").into_bytes();
    let chunks = std::iter::once(head).chain(std::iter::repeat_n(vec![b'x'; 1 << 20], 400));
    // As from a network: what is always ready, the parser takes in whole before it gives any of it on.
    let endless = futures::stream::iter(chunks).then(move |chunk| {
        counted.fetch_add(1, Ordering::Relaxed);
        async {
            tokio::task::yield_now().await;
            Ok::<_, std::io::Error>(chunk)
        }
    });
    request(&studio, "adapter", "application/json", Body::from_stream(endless)).await.refused(422, "too long");
    assert!(read.load(Ordering::Relaxed) < 10, "{} MiB were read", read.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_is_tried_on_the_model_before_it_is_kept() {
    let studio = Studio::open().await;
    let file = std::fs::read("tests/fixtures/flux-mini/lora_impressionist.safetensors").unwrap();
    let adapter: AdapterInfo =
        Form::default().field("name", "Brought along").named("file", "lora.safetensors", &file).send(&studio, "adapter").await.ok().json();
    assert!(adapter.rank > 0 && !adapter.training && adapter.base_model == "flux-mini");
    assert_eq!(studio.get(&format!("/files/adapters/{}.safetensors", adapter.id)).await.ok().body, file);

    for (program, key) in
        [("kohya", "lora_unet_double_blocks_0_"), ("comfyui", "diffusion_model.double_blocks.0."), ("diffusers", "transformer.")]
    {
        let exported = studio.get(&format!("/files/adapters/{}.safetensors?for={program}", adapter.id)).await.ok();
        let name = format!("attachment; filename=\"brought-along-{program}.safetensors\"");
        assert_eq!(exported.headers["content-disposition"], name.as_str());
        let tensors = safetensors::SafeTensors::deserialize(&exported.body).unwrap();
        assert!(tensors.names().iter().any(|name| name.starts_with(key)), "{program}: {:?}", tensors.names());
    }
    // One that is being read makes the others wait, and nothing is sent in one piece.
    let path = format!("/files/adapters/{}.safetensors", adapter.id);
    let turns = studio.state.jobs.reading.acquire_many(2).await.unwrap();
    let exported = format!("{path}?for=kohya");
    let waiting = tokio::time::timeout(std::time::Duration::from_millis(300), studio.get(&exported)).await;
    assert!(waiting.is_err(), "nobody's turn");
    drop(turns);
    studio.get(&exported).await.ok();
    let request = Request::get(&path).header(header::HOST, "localhost:7860").body(Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(studio.router(), request).await.unwrap();
    assert_eq!(response.headers()["content-length"], file.len().to_string().as_str());
    let first = futures::StreamExt::next(&mut response.into_body().into_data_stream()).await.unwrap().unwrap();
    assert!(first.len() < file.len(), "{} of {} bytes at once", first.len(), file.len());

    studio.get(&format!("/files/adapters/{}.safetensors?for=paper", adapter.id)).await.refused(422, "kohya");

    let stranger = safetensors_of_another_model();
    for (bytes, words) in
        [(&b"nonsense"[..], "safetensors"), (&file[..file.len() / 2], "truncated"), (&stranger[..], "none of its 1 modules")]
    {
        Form::default().named("file", "x.safetensors", bytes).send(&studio, "adapter").await.refused(422, words);
    }
    assert_eq!(studio.api().adapters().await.unwrap().len(), 1);
}

const BOUNDARY: &str = "atelier-test-boundary";

/// A multipart form in the making.
#[derive(Default)]
pub struct Form(Vec<u8>);

impl Form {
    /// How a file begins.
    pub fn head(name: &str, file_name: &str) -> Vec<u8> {
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file_name}\"\r\n\r\n").into_bytes()
    }

    pub fn field(mut self, name: &str, value: &str) -> Self {
        write!(self.0, "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").unwrap();
        self
    }

    pub fn file(self, file_name: &str, bytes: &[u8]) -> Self {
        self.named("files", file_name, bytes)
    }

    pub fn named(mut self, name: &str, file_name: &str, bytes: &[u8]) -> Self {
        let disposition = format!("Content-Disposition: form-data; name=\"{name}\"; filename=\"{file_name}\"");
        write!(self.0, "--{BOUNDARY}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n").unwrap();
        self.0.extend_from_slice(bytes);
        self.0.extend_from_slice(b"\r\n");
        self
    }

    async fn send(self, studio: &Studio, to: &str) -> Answer {
        self.send_accepting(studio, to, "application/json").await
    }

    async fn send_accepting(self, studio: &Studio, to: &str, accept: &str) -> Answer {
        request(studio, to, accept, self.body()).await
    }

    pub async fn send_to(self, studio: &Studio, path: &str) -> Answer {
        request_to(studio, path, "application/json", self.body()).await
    }

    fn body(mut self) -> Body {
        write!(self.0, "--{BOUNDARY}--\r\n").unwrap();
        Body::from(self.0)
    }
}

async fn request(studio: &Studio, to: &str, accept: &str, body: Body) -> Answer {
    request_to(studio, &format!("/upload/{to}"), accept, body).await
}

pub async fn request_to(studio: &Studio, path: &str, accept: &str, body: Body) -> Answer {
    let request = Request::post(path)
        .header(header::HOST, "localhost:7860")
        .header(header::ACCEPT, accept)
        .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"));
    studio.send(request.body(body).unwrap()).await
}

fn painted(tint: u8) -> RgbImage {
    RgbImage::from_fn(64, 48, |x, y| image::Rgb([(x * 4) as u8, (y * 5) as u8, tint.wrapping_mul(60)]))
}

fn encoded(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub fn picture(tint: u8) -> Vec<u8> {
    encoded(&painted(tint), ImageFormat::Png)
}

fn jpeg(tint: u8) -> Vec<u8> {
    encoded(&painted(tint), ImageFormat::Jpeg)
}

/// A few hundred bytes that claim 60,000 × 60,000 pixels.
fn bomb() -> Vec<u8> {
    let mut bytes = picture(1);
    // IHDR: width and height, then its checksum over type and data.
    bytes[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
    let checksum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// One LoRA pair for a layer that flux-mini does not have.
fn safetensors_of_another_model() -> Vec<u8> {
    let (a, b) = ("transformer.transformer_blocks.18.attn.to_q.lora_A.weight", "transformer.transformer_blocks.18.attn.to_q.lora_B.weight");
    let header = format!(
        r#"{{"{a}":{{"dtype":"F32","shape":[1,4],"data_offsets":[0,16]}},"{b}":{{"dtype":"F32","shape":[4,1],"data_offsets":[16,32]}}}}"#
    );
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(&[0; 32]);
    bytes
}
