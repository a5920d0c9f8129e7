//! What a person can get wrong: one sentence each, and nothing left behind.

use super::program::{Outcome, atelier, copy_folder, fixtures, names, root};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

/// A folder that must stay empty but for what the test put there.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn generate(&self, own: &[&str]) -> Outcome {
        let out = self.at("out.png");
        let asked: Vec<String> = own.iter().map(|text| text.to_string()).collect();
        let mut arguments = vec!["generate".to_owned(), "--out".into(), out.to_str().unwrap().into()];
        if !own.contains(&"--prompt") {
            arguments.extend(["--prompt".into(), "a lake".into()]);
        }
        let outcome = atelier(arguments.into_iter().chain(asked));
        assert!(!out.exists(), "{outcome}");
        outcome
    }

    fn train(&self, data: &Path, own: &[&str]) -> Outcome {
        let out = self.at("run");
        let arguments = ["train", "--data", data.to_str().unwrap(), "--out", out.to_str().unwrap()];
        let outcome = atelier(arguments.iter().chain(own));
        assert!(!out.exists(), "a refused training leaves nothing: {outcome}");
        outcome
    }
}

fn set() -> PathBuf {
    root().join("public/style-sets/impressionist")
}

#[test]
fn a_picture_that_cannot_be_drawn() {
    let scratch = Scratch::new();
    for (arguments, words) in [
        (["--width", "250"], "multiples of 16"),
        (["--height", "0"], "multiples of 16"),
        (["--width", "100000"], "multiples of 16"),
        (["--steps", "0"], "steps 0"),
        (["--steps", "100000"], "steps"),
        (["--count", "0"], "count 0"),
        (["--guidance", "NaN"], "guidance"),
        (["--guidance", "-1"], "guidance"),
        (["--max-sequence-length", "513"], "max_sequence_length"),
        (["--max-sequence-length", "0"], "max_sequence_length"),
        (["--seed", "-1"], "--seed"),
    ] {
        let outcome = scratch.generate(&arguments).refused(words);
        assert_eq!(outcome.code, Some(2), "{outcome}");
    }
    scratch.generate(&["--prompt", &"a".repeat(100_000)]).refused("100000 characters");
    assert!(names(scratch.0.path()).is_empty());
}

#[test]
fn a_place_that_cannot_be_written() {
    let scratch = Scratch::new();
    fs::write(scratch.at("file"), "x").unwrap();
    for (out, words) in [("file/out.png", "not a folder"), ("out.jpg", "PNG"), ("file", "folder")] {
        let out = scratch.at(out);
        atelier(["generate", "--prompt", "x", "--out", out.to_str().unwrap()]).refused(words);
    }
    if cfg!(target_os = "linux") {
        atelier(["generate", "--prompt", "x", "--out", "/proc/out.png"]).refused("cannot write");
        atelier(["train", "--data", set().to_str().unwrap(), "--out", "/proc/run"]).refused("cannot write");
    }
    assert_eq!(names(scratch.0.path()), ["file"]);
}

#[test]
fn a_model_that_is_missing_or_damaged() {
    let scratch = Scratch::new();
    scratch.generate(&["--model", "no/such/model"]).refused("no/such/model");
    let empty = scratch.at("empty");
    fs::create_dir(&empty).unwrap();
    scratch.generate(&["--model", empty.to_str().unwrap()]).refused("model_index.json");

    let model = scratch.at("model");
    copy_folder(&root().join("models/flux-mini"), &model);
    let refused = |words: &str| scratch.generate(&["--model", model.to_str().unwrap()]).refused(words);
    let weights = model.join("transformer/diffusion_pytorch_model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() / 3]).unwrap();
    refused("diffusion_pytorch_model.safetensors");
    fs::write(&weights, "nothing").unwrap();
    refused("diffusion_pytorch_model.safetensors");
    fs::remove_file(&weights).unwrap();
    refused("transformer");
    fs::write(&weights, whole).unwrap();
    let config = model.join("vae/config.json");
    fs::write(&config, "{ not json").unwrap();
    refused("config.json");
    fs::remove_file(&config).unwrap();
    refused("config.json");
}

#[test]
fn an_adapter_that_does_not_fit() {
    let scratch = Scratch::new();
    scratch.generate(&["--adapter", "no-such.safetensors"]).refused("no-such.safetensors");
    let adapter = fixtures().join("lora_impressionist.safetensors");
    for scale in ["NaN", "much", "", "99"] {
        scratch.generate(&["--adapter", &format!("{}:{scale}", adapter.display())]).refused("scale");
    }
    let broken = scratch.at("broken.safetensors");
    let bytes = fs::read(&adapter).unwrap();
    fs::write(&broken, &bytes[..bytes.len() / 2]).unwrap();
    scratch.generate(&["--adapter", broken.to_str().unwrap()]).refused("broken");
    fs::write(&broken, "not an adapter").unwrap();
    scratch.generate(&["--adapter", broken.to_str().unwrap()]).refused("broken");

    // The same adapter for a model with blocks of other names.
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    let renamed = header.replace("transformer_blocks", "transformer_blockz");
    let foreign: Vec<u8> = bytes[..8].iter().copied().chain(renamed.into_bytes()).chain(bytes[8 + length..].to_vec()).collect();
    fs::write(&broken, foreign).unwrap();
    scratch.generate(&["--adapter", broken.to_str().unwrap()]).refused("broken");
    // The model itself is no adapter either.
    scratch.generate(&["--adapter", "models/flux-mini/vae/diffusion_pytorch_model.safetensors"]).refused("adapter");
}

#[test]
fn a_part_of_an_adapter_that_does_not_fit_is_named_key_by_key() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(fixtures().join("lora_impressionist.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    let renamed = header.replace("transformer.transformer_blocks.0.", "transformer.transformer_blocks.9.");
    let partial = folder.path().join("partial.safetensors");
    fs::write(&partial, [&bytes[..8], renamed.as_bytes(), &bytes[8 + length..]].concat()).unwrap();
    let out = folder.path().join("out.png");
    let small = ["--width", "64", "--height", "64", "--steps", "1"];
    let own = ["generate", "--prompt", "x", "--adapter", partial.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let outcome = atelier(own.iter().chain(&small)).good();
    assert!(outcome.stderr.contains("transformer_blocks.9.attn.to_q") && outcome.stderr.contains("left out"), "{outcome}");
    assert!(out.is_file());
}

#[test]
fn a_recipe_outside_its_limits() {
    let scratch = Scratch::new();
    for (arguments, words) in [
        (["--rank", "0"], "rank"),
        (["--learning-rate", "NaN"], "learning_rate"),
        (["--learning-rate", "-1"], "learning_rate"),
        (["--steps", "0"], "steps"),
        (["--batch-size", "0"], "batch_size"),
        (["--accumulate", "0"], "accumulate"),
        (["--alpha", "inf"], "alpha"),
        (["--resolution", "100x100"], "multiples of 16"),
        (["--targets", "(("], "targets"),
        (["--targets", "no_such_layer"], "targets"),
        (["--recipe", "no-such-recipe"], "no-such-recipe"),
        (["--set", "no_such_field=1"], "no_such_field"),
        (["--set", "schedule=square"], "schedule"),
        (["--set", "caption_dropout=2"], "caption_dropout"),
    ] {
        scratch.train(&set(), &arguments).refused(words);
    }
    let toml = scratch.at("recipe.toml");
    fs::write(&toml, "rank = \"many\"").unwrap();
    scratch.train(&set(), &["--recipe", toml.to_str().unwrap()]).refused("rank");
    fs::write(&toml, "colour = 1").unwrap();
    scratch.train(&set(), &["--recipe", toml.to_str().unwrap()]).refused("colour");
    scratch.train(&set(), &["--resume"]).refused("--resume");
}

#[test]
fn pictures_that_are_none() {
    let scratch = Scratch::new();
    scratch.train(&scratch.at("nowhere"), &[]).refused("nowhere");
    let data = scratch.at("data");
    fs::create_dir(&data).unwrap();
    scratch.train(&data, &["--trigger", "t"]).refused("no pictures");

    fs::write(data.join("a.png"), "these are words").unwrap();
    scratch.train(&data, &["--trigger", "t"]).refused("a.png");
    let whole = fs::read(set().join("impressionist_01.jpg")).unwrap();
    fs::remove_file(data.join("a.png")).unwrap();
    fs::write(data.join("cut.jpg"), &whole[..whole.len() / 2]).unwrap();
    scratch.train(&data, &["--trigger", "t"]).refused("cut.jpg");

    fs::write(data.join("cut.jpg"), &whole).unwrap();
    scratch.train(&data, &[]).refused("caption");
    fs::write(data.join("metadata.jsonl"), "{\"file_name\": \"cut.jpg\", \"text\": \"  \"}\n").unwrap();
    scratch.train(&data, &[]).refused("caption");
    fs::write(data.join("metadata.jsonl"), "{\"file_name\": \"gone.jpg\", \"text\": \"x\"}\n").unwrap();
    scratch.train(&data, &[]).refused("gone.jpg");
}

/// A picture of 60,000 × 60,000 pixels in a hundred bytes.
#[test]
fn a_decompression_bomb() {
    let scratch = Scratch::new();
    let data = scratch.at("data");
    fs::create_dir(&data).unwrap();
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, 60_000, 60_000);
    encoder.set_color(::png::ColorType::Rgb);
    encoder.write_header().unwrap();
    fs::write(data.join("bomb.png"), bytes).unwrap();
    scratch.train(&data, &["--trigger", "t"]).refused("bomb.png");
}

fn zip(path: &Path, entries: impl Iterator<Item = (String, Vec<u8>)>) {
    let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
    let options = zip::write::SimpleFileOptions::default();
    for (name, bytes) in entries {
        zip.start_file(name, options).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn an_archive_that_climbs_or_swarms() {
    let scratch = Scratch::new();
    let path = scratch.at("set.zip");
    let picture = fs::read(set().join("impressionist_01.jpg")).unwrap();
    for name in ["../climbed.jpg", "/tmp/climbed-atelier.jpg", "a/../../climbed.jpg"] {
        zip(&path, [(name.to_owned(), picture.clone())].into_iter());
        scratch.train(&path, &["--trigger", "t"]).refused("");
        assert!(!scratch.at("climbed.jpg").exists() && !Path::new("/tmp/climbed-atelier.jpg").exists());
    }
    zip(&path, (0..100_000).map(|i| (format!("{i}.txt"), Vec::new())));
    scratch.train(&path, &["--trigger", "t"]).refused("entries");
    fs::write(&path, "no zip at all").unwrap();
    scratch.train(&path, &["--trigger", "t"]).refused("zip");
    assert_eq!(names(scratch.0.path()), ["set.zip"]);
}
