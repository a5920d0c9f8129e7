//! The HTTP API for scripts: its document, its tokens, and the work of a studio done through it alone.

use super::{
    studio::{Answer, Studio, small_training},
    uploads::{Form, picture, request_to},
};
use app::api::*;
use atelier::config::{ApiKeys, Config};
use axum::{
    body::Body,
    http::{Method, Request, header},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path};

const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

async fn ask(studio: &Studio, method: &str, path: &str, body: Option<Value>) -> Answer {
    let request = Request::builder().method(Method::from_bytes(method.to_uppercase().as_bytes()).unwrap()).uri(path);
    let request = request.header(header::HOST, "localhost:7860");
    studio
        .send(match body {
            Some(body) => request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string())).unwrap(),
            None => request.body(Body::empty()).unwrap(),
        })
        .await
}

async fn get(studio: &Studio, path: &str) -> Answer {
    ask(studio, "get", path, None).await
}

async fn post(studio: &Studio, path: &str, body: Value) -> Answer {
    ask(studio, "post", path, Some(body)).await
}

/// The document, and each (path, method) in it.
async fn document(studio: &Studio) -> (Value, Vec<(String, String)>) {
    let document: Value = studio.get("/api/openapi.json").await.ok().json();
    let paths = document["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, item)| item.as_object().unwrap().keys().map(|method| (path.clone(), method.clone())));
    let operations = operations.filter(|(_, method)| METHODS.contains(&method.as_str())).collect();
    (document, operations)
}

fn concrete(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "nobody" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_route_answers_and_every_route_is_documented() {
    let studio = Studio::open().await;
    let (document, operations) = document(&studio).await;
    assert_eq!(document["openapi"].as_str().unwrap().split('.').next(), Some("3"));
    for (path, method) in &operations {
        let body = document["paths"][path][method]["requestBody"]["content"].get("application/json").map(|_| json!({}));
        let answer = ask(&studio, method, &concrete(path), body).await;
        let text = String::from_utf8_lossy(&answer.body);
        assert!(answer.status != 405 && !text.contains("nothing at this address"), "{method} {path}: {} {text}", answer.status);
        assert!(answer.status != 500, "{method} {path}: {text}");
        assert!(document["paths"][path][method]["summary"].is_string(), "{method} {path} says nothing of itself");
        if path.starts_with("/api/v1/") && answer.status.as_u16() >= 400 {
            let error: ApiError = answer.json();
            assert_eq!(error.status, answer.status.as_u16(), "{method} {path}");
        }
    }
    // What is not in the document is not there.
    for path in operations.iter().map(|(path, _)| path).collect::<BTreeSet<_>>() {
        for method in METHODS.iter().filter(|method| document["paths"][path].get(**method).is_none()) {
            assert_eq!(ask(&studio, method, &concrete(path), None).await.status, 405, "{method} {path}");
        }
    }
    let written: usize = ["src/server/rest", "src/server/openai"].iter().map(|folder| handlers(Path::new(folder))).sum();
    assert_eq!(operations.len(), written, "every handler with a path is mounted");
    assert!(operations.len() > 40);
}

fn handlers(folder: &Path) -> usize {
    let files = fs::read_dir(folder).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    files.map(|text| text.matches("#[utoipa::path(").count()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_whole_and_its_page_lists_it() {
    let studio = Studio::open().await;
    let (document, operations) = document(&studio).await;
    let text = document.to_string();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for reference in text.split("\"$ref\":\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        let name = reference.strip_prefix("#/components/schemas/").unwrap();
        assert!(schemas.contains_key(name), "{reference} leads nowhere");
    }
    for (path, method) in &operations {
        for parameter in document["paths"][path][method]["parameters"].as_array().into_iter().flatten() {
            let in_path = path.contains(&format!("{{{}}}", parameter["name"].as_str().unwrap()));
            assert_eq!(parameter["in"], if in_path { "path" } else { "query" }, "{method} {path}: {parameter}");
        }
    }
    let request = &schemas["GenerateRequest"];
    assert_eq!(request["required"], json!(["prompt"]));
    assert_eq!(request["properties"]["adapters"]["items"]["$ref"], "#/components/schemas/AdapterUse");
    assert_eq!(schemas["RunState"]["enum"], json!(["queued", "running", "done", "failed", "stopped"]));
    assert_eq!(document["security"][0], json!({"token": []}));

    let page = studio.get("/api").await.ok();
    let page = String::from_utf8(page.body).unwrap();
    assert!(page.contains("<h1>HTTP API</h1>"));
    for (path, _) in &operations {
        assert!(page.contains(&format!("<code>{path}</code>")), "{path} is not on the page");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_drawn_waited_for_fetched_and_deleted() {
    let studio = Studio::open().await;
    let about: app::api::Studio = get(&studio, "/api/v1/studio").await.ok().json();
    assert_eq!(about.version, env!("CARGO_PKG_VERSION"));
    let small = json!({"prompt": "a lake", "width": 64, "height": 64, "steps": 2, "seed": 7});
    let answer = post(&studio, "/api/v1/pictures?wait=50", small.clone()).await;
    assert_eq!(answer.status, 200);
    let run: Run = answer.json();
    assert_eq!((run.state, run.pictures.len()), (RunState::Done, 1));
    let one = format!("/api/v1/pictures/{}", run.pictures[0]);
    let picture: Picture = get(&studio, &one).await.ok().json();
    assert_eq!((picture.seed, picture.width, picture.guidance), (7, 64, 3.5));
    let image = get(&studio, &format!("{one}/image")).await.ok();
    assert_eq!(image.headers["content-type"], "image/png");
    assert_eq!(image::load_from_memory(&image.body).unwrap().width(), 64);
    let found: Vec<Picture> = get(&studio, "/api/v1/pictures?search=LAKE&limit=5").await.ok().json();
    assert_eq!(found, [picture]);

    // Queued, then waited for.
    let answer = post(&studio, "/api/v1/pictures", small).await;
    let run: Run = answer.json();
    assert!(answer.status == 202 || !run.state.is_active());
    let run: Run = get(&studio, &format!("/api/v1/runs/{}?wait=50", run.id)).await.ok().json();
    assert_eq!(run.state, RunState::Done);
    let runs: Vec<Run> = get(&studio, "/api/v1/runs?limit=1").await.ok().json();
    assert_eq!(runs, [run]);
    let active: Vec<Run> = get(&studio, "/api/v1/runs?active=true").await.ok().json();
    assert!(active.is_empty());

    assert_eq!(ask(&studio, "delete", &one, None).await.status, 204);
    get(&studio, &format!("{one}/image")).await.refused(404, "no picture");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_out_is_the_models_own() {
    let studio = Studio::open().await;
    let run: Run = post(&studio, "/api/v1/pictures?wait=50", json!({"prompt": "a lake"})).await.ok().json();
    let picture: Picture = get(&studio, &format!("/api/v1/pictures/{}", run.pictures[0])).await.ok().json();
    assert_eq!((picture.width, picture.height, picture.steps), (256, 256, 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_one_shape() {
    let studio = Studio::open().await;
    post(&studio, "/api/v1/pictures", json!({})).await.refused(422, "prompt");
    post(&studio, "/api/v1/pictures", json!({"prompt": "x", "width": 65, "height": 64})).await.refused(422, "multiples of 16");
    post(&studio, "/api/v1/pictures?wait=long", json!({"prompt": "x"})).await.refused(422, "query");
    get(&studio, "/api/v1/nowhere").await.refused(404, "/api lists");
    ask(&studio, "put", "/api/v1/pictures", None).await.refused(405, "methods");
    let text = Request::post("/api/v1/pictures").header(header::HOST, "localhost").body(Body::from("prompt=x")).unwrap();
    studio.send(text).await.refused(415, "application/json");
    let broken = Request::post("/api/v1/pictures").header(header::HOST, "localhost").header(header::CONTENT_TYPE, "application/json");
    studio.send(broken.body(Body::from("{\"prompt\": ")).unwrap()).await.refused(400, "body");
    let form = Request::post("/api/v1/datasets").header(header::HOST, "localhost").body(Body::from("x")).unwrap();
    studio.send(form).await.refused(415, "multipart/form-data");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_is_sent_trained_on_watched_stopped_resumed_and_its_adapter_taken_along() {
    let studio = Studio::open().await;
    let samples: Vec<SampleSet> = get(&studio, "/api/v1/sample-sets").await.ok().json();
    assert_eq!(samples.len(), 2);
    let form = Form::default().field("name", "Lakes").field("trigger", "in oil").file("a.png", &picture(1)).file("b.png", &picture(2));
    let answer = form.send_to(&studio, "/api/v1/datasets").await;
    assert_eq!(answer.status, 201);
    let set: DatasetInfo = answer.json();
    let one = format!("/api/v1/datasets/{}", set.id);
    let more = Form::default().file("c.png", &picture(3)).send_to(&studio, &format!("{one}/pictures")).await.ok();
    let set: DatasetInfo = more.json();
    assert_eq!(set.items.len(), 3);
    let item = format!("{one}/pictures/{}", set.items[0].id);
    assert_eq!(get(&studio, &item).await.ok().body, picture(1));
    let captioned: DatasetInfo = ask(&studio, "patch", &item, Some(json!({"caption": "a hill"}))).await.ok().json();
    assert_eq!(captioned.items[0].caption, "a hill");
    let set: DatasetInfo = ask(&studio, "patch", &one, Some(json!({"trigger": "in ink"}))).await.ok().json();
    assert_eq!(set.items[0].caption, "a hill, in ink");

    let recipes: Vec<RecipeInfo> = get(&studio, "/api/v1/recipes").await.ok().json();
    assert!(recipes.iter().any(|recipe| recipe.name == "quick"));
    let mut wanted = small_training(&set);
    wanted.settings.steps = Some(2000);
    let prediction: Prediction = post(&studio, "/api/v1/predictions", json!(wanted)).await.ok().json();
    assert!(prediction.seconds > 0.0);
    let answer = post(&studio, "/api/v1/trainings", json!(wanted)).await;
    assert_eq!(answer.status, 202);
    let run = answer.json::<Run>().id;
    let events = studio.events_at(&format!("/api/v1/runs/{run}/events?after=0")).await;
    studio.until(&run, |run| run.progress.phase == "training" && run.progress.done >= 3).await;
    let stopped: Run = post(&studio, &format!("/api/v1/runs/{run}/stop?wait=50"), json!(null)).await.ok().json();
    assert_eq!(stopped.state, RunState::Stopped);
    let heard: Vec<Event> = futures::StreamExt::collect(events).await;
    let steps: Vec<u32> =
        heard.iter().filter_map(|event| if let Event::Loss { point } = event { Some(point.step) } else { None }).collect();
    assert_eq!(steps, (1..=stopped.progress.done).collect::<Vec<_>>(), "each loss once, in order");
    assert!(matches!(heard.last(), Some(Event::Snapshot { run }) if run.state == RunState::Stopped));

    let resumed = post(&studio, &format!("/api/v1/runs/{run}/resume"), json!(null)).await;
    assert_eq!(resumed.status, 202);
    studio.until(&run, |run| run.progress.done > stopped.progress.done + 1).await;
    post(&studio, &format!("/api/v1/runs/{run}/stop?wait=50"), json!(null)).await.ok();
    let detail: TrainingDetail = get(&studio, &format!("/api/v1/trainings/{run}")).await.ok().json();
    let sample = detail.samples[0].url.rsplit('/').next().unwrap().to_owned();
    let sample = get(&studio, &format!("/api/v1/trainings/{run}/samples/{sample}")).await.ok();
    assert_eq!(sample.headers["content-type"], "image/png");

    let adapters: Vec<AdapterInfo> = get(&studio, "/api/v1/adapters").await.ok().json();
    let adapter = format!("/api/v1/adapters/{}", adapters[0].id);
    let weights = get(&studio, &format!("{adapter}/weights")).await.ok();
    assert_eq!(weights.headers["content-disposition"], "attachment; filename=\"small-mucha.safetensors\"");
    let kohya = get(&studio, &format!("{adapter}/weights?for=kohya")).await.ok();
    assert_eq!(kohya.headers["content-disposition"], "attachment; filename=\"small-mucha-kohya.safetensors\"");
    assert!(kohya.body.windows(9).any(|bytes| bytes == b"lora_unet") && kohya.body != weights.body);
    get(&studio, &format!("{adapter}/weights?for=paint")).await.refused(422, "kohya");
    let renamed: AdapterInfo = ask(&studio, "patch", &adapter, Some(json!({"name": "Oil"}))).await.ok().json();
    assert_eq!(renamed.name, "Oil");
    let recipe: Value = get(&studio, &format!("{adapter}/recipe")).await.ok().json();
    assert_eq!(recipe["recipe"]["rank"], 2);
    let review: PublishReview = get(&studio, &format!("{adapter}/publication")).await.ok().json();
    assert_eq!(review.request.title, "Oil");
    // Refused before anything is sent: nobody said whose the pictures are.
    post(&studio, &format!("{adapter}/publication"), json!(review.request)).await.refused(422, "token");
    assert_eq!(get(&studio, &format!("{adapter}/publication/state")).await.ok().json::<Option<PublishState>>(), None);

    let brought =
        Form::default().field("name", "Again").named("file", "x.safetensors", &weights.body).send_to(&studio, "/api/v1/adapters").await;
    assert_eq!(brought.status, 201);
    let brought: AdapterInfo = brought.json();
    assert_eq!((brought.rank, brought.bytes), (2, weights.body.len() as u64));
    let size = json!({"prompt": "a lake", "adapter": brought.id, "scales": [1.0], "width": 64, "height": 64, "steps": 2, "seed": 3});
    let comparison: Comparison = post(&studio, "/api/v1/comparisons", size).await.ok().json();
    get(&studio, &format!("/api/v1/runs/{}?wait=50", comparison.run.id)).await.ok();
    let one = format!("/api/v1/comparisons/{}", comparison.id);
    let drawn: Comparison = get(&studio, &one).await.ok().json();
    assert!(drawn.cells.iter().all(|cell| cell.picture.is_some()));
    let tally: Tally = post(&studio, &format!("{one}/votes"), json!({"seed": 3, "scale": 1.0, "adapter_won": true})).await.ok().json();
    assert_eq!(tally.wins, 1);
    assert_eq!(get(&studio, &format!("/api/v1/adapters/{}/tally", brought.id)).await.ok().json::<Tally>(), tally);
    assert_eq!(ask(&studio, "delete", &format!("/api/v1/adapters/{}", brought.id), None).await.status, 204);
    assert_eq!(ask(&studio, "delete", &format!("/api/v1/datasets/{}", set.id), None).await.status, 204);
}

fn asking(method: Method, path: &str, more: &[(&str, &str)]) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header(header::HOST, "studio.example");
    more.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(Body::empty()).unwrap()
}

fn with_token(token: &str) -> Request<Body> {
    asking(Method::GET, "/api/v1/runs/nobody", &[("authorization", &format!("Bearer {token}"))])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_others_reach_wants_a_token() {
    let studio = Studio::open_with(Config { host: "0.0.0.0".parse().unwrap(), ..Config::default() }).await;
    let tokens = studio.state.jobs.store.api_tokens();
    let token = tokens.create("ci").await.unwrap();
    assert!(tokens.create("ci").await.unwrap_err().to_string().contains("already"));

    let (_, operations) = document(&studio).await;
    for (path, method) in &operations {
        let answer = ask(&studio, method, &concrete(path), Some(json!({}))).await;
        assert_eq!((answer.status.as_u16(), &answer.headers["www-authenticate"]), (401, &"Bearer".parse().unwrap()), "{method} {path}");
    }
    assert_eq!(studio.get("/metrics").await.status, 401);
    // A token in a cookie or in the address is none.
    let (cookie, basic) = (format!("authorization=Bearer {token}; token={token}"), format!("Basic {token}"));
    for more in [&[][..], &[("cookie", cookie.as_str())], &[("authorization", &basic)], &[("authorization", "Bearer atelier_wrong")]] {
        studio.send(asking(Method::GET, &format!("/api/v1/runs/nobody?token={token}"), more)).await.refused(401, "token");
    }
    studio.send(asking(Method::POST, "/api/v1/runs/nobody/stop", &[("cookie", &cookie)])).await.refused(403, "another site");
    studio.send(with_token(&token)).await.refused(404, "no run");
    // A page elsewhere cannot send this header; a program that does is let through, whatever else it sends.
    let signed = format!("Bearer {token}");
    let more = [("authorization", signed.as_str()), ("origin", "https://elsewhere.example"), ("cookie", "a=b")];
    studio.send(asking(Method::POST, "/api/v1/runs/nobody/stop", &more)).await.refused(404, "no run");
    assert!(tokens.list().await.unwrap()[0].used_at.is_some());
    tokens.revoke("ci").await.unwrap();
    studio.send(with_token(&token)).await.refused(401, "token");
    assert!(tokens.revoke("ci").await.is_err());
    // The pages have ways of their own: a token does not open them to other sites.
    studio.send(asking(Method::POST, "/api/start_generation", &more[..2])).await.refused(403, "another site");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_server_wants_one_once_there_is_one() {
    let studio = Studio::open().await;
    get(&studio, "/api/v1/studio").await.ok();
    // Another name for this machine is another site's trick, even for reading.
    let tricked = Request::get("/api/v1/studio").header(header::HOST, "rebound.example:7860").body(Body::empty()).unwrap();
    studio.send(tricked).await.refused(403, "another site");
    let crossed =
        Request::post("/api/v1/runs/x/stop").header(header::HOST, "localhost:7860").header(header::ORIGIN, "https://elsewhere.example");
    studio.send(crossed.body(Body::empty()).unwrap()).await.refused(403, "another site");
    let token = studio.state.jobs.store.api_tokens().create("me").await.unwrap();
    get(&studio, "/api/v1/studio").await.refused(401, "token");
    let signed = Request::get("/api/v1/studio").header(header::AUTHORIZATION, format!("bearer {token}")).body(Body::empty()).unwrap();
    studio.send(signed).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_surroundings_may_bring_tokens() {
    let token = "0123456789abcdef0123456789abcdef";
    let api_keys = ApiKeys::of(&[token]);
    let studio = Studio::open_with(Config { api_keys, ..Config::default() }).await;
    get(&studio, "/api/v1/studio").await.refused(401, "token");
    studio.send(with_token(token)).await.refused(404, "no run");
    let metrics = Request::get("/metrics").header(header::AUTHORIZATION, format!("Bearer {token}")).body(Body::empty()).unwrap();
    let metrics = studio.send(metrics).await.ok();
    let text = String::from_utf8(metrics.body).unwrap();
    for line in ["atelier_ready ", "atelier_event_streams 0", "atelier_kept{what=\"pictures\"} 0", "# EOF"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(text.contains("atelier_http_requests_total{part=\"api\",status=\"401\"} 1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_through_the_api_is_bounded_too() {
    let studio = Studio::open().await;
    let chunk = vec![7_u8; 1 << 20];
    let head = Form::head("files", "a.png");
    let endless = futures::stream::iter(std::iter::once(head).chain(std::iter::repeat_n(chunk, 600)).map(Ok::<_, std::io::Error>));
    request_to(&studio, "/api/v1/datasets", "application/json", Body::from_stream(endless)).await.refused(413, "512 MiB");
}
