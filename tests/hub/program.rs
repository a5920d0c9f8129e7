//! `atelier publish` as a person types it.

use super::{
    loopback::{Fault, Loopback, READER, WRITER},
    python,
};
use atelier::engine::{Device, Size, latents::PackedLatents};
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

/// A training's folder with a real adapter, and real pictures of both models.
pub fn training(folder: &Path) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/flux-mini");
    fs::create_dir_all(folder.join("samples")).unwrap();
    fs::copy(fixtures.join("lora_impressionist.safetensors"), folder.join("pytorch_lora_weights.safetensors")).unwrap();
    for step in ["step-000000-00.png", "step-000200-00.png"] {
        fs::copy(fixtures.join("sampling.png"), folder.join("samples").join(step)).unwrap();
    }
    let description = json!({
        "name": "Impressionist", "base_model": "flux-mini", "trigger": "impressionist painting", "steps": 200, "final_loss": 0.5,
        "recipe": {"rank": 16, "sample_prompts": ["a lake: \"dusk\", impressionist painting"]}, "dataset": {"pictures": ["a", "b"]},
    });
    fs::write(folder.join("adapter.json"), description.to_string()).unwrap();
}

/// The program with nothing of this machine's own settings.
pub fn atelier(hub: &str, token: Option<&str>, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atelier"));
    command.arg("publish").args(arguments).stdin(Stdio::null()).env("HF_ENDPOINT", hub).env("HF_HOME", "/nowhere").env("RUST_LOG", "trace");
    for name in ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_DISABLE_IMPLICIT_TOKEN"] {
        command.env_remove(name);
    }
    command.envs(token.map(|token| ("HF_TOKEN", token))).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{:?}\n{}\n{}", output.status.code(), String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_is_published_updated_and_taken_off() {
    let hub = Loopback::start().await;
    let folder = tempfile::tempdir().unwrap();
    training(folder.path());
    let path = folder.path().to_str().unwrap();
    let publish = ["--adapter", path, "--repo", "ada/impressionist", "--rights", "Drawn by a program.", "--yes", "--json", "-vv"];
    let outcome = atelier(&hub.endpoint, Some(WRITER), &publish);
    assert!(outcome.status.success(), "{}", said(&outcome));
    let first: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!((first["created"].as_bool(), first["repo"].as_str()), (Some(true), Some("ada/impressionist")));
    assert!(!said(&outcome).contains(WRITER), "the token is in the log of everything");
    let files = hub.files("ada/impressionist").unwrap();
    let paths: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(
        paths,
        [".gitattributes", "README.md", "adapter.json", "images/01-base.png", "images/01.png", "pytorch_lora_weights.safetensors"]
    );

    fs::write(folder.path().join("samples/step-000200-00.png"), fs::read("public/icons/touch.png").unwrap()).unwrap();
    let second: Value = serde_json::from_slice(&atelier(&hub.endpoint, Some(WRITER), &publish).stdout).unwrap();
    assert_eq!((second["created"].as_bool(), second["unchanged"].as_bool()), (Some(false), Some(false)));
    let third: Value = serde_json::from_slice(&atelier(&hub.endpoint, Some(WRITER), &publish).stdout).unwrap();
    assert_eq!((third["unchanged"].as_bool(), &third["commit"]), (Some(true), &second["commit"]));

    let token = folder.path().join("token");
    fs::write(&token, format!("{WRITER}\n")).unwrap();
    let off = ["--unpublish", "--repo", "ada/impressionist", "--yes", "--token-file", token.to_str().unwrap()];
    assert!(atelier(&hub.endpoint, None, &off).status.success());
    assert!(hub.files("ada/impressionist").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_can_be_looked_at_without_a_token_or_a_hub() {
    let folder = tempfile::tempdir().unwrap();
    training(folder.path());
    let out = folder.path().join("card");
    let outcome = atelier(
        "http://127.0.0.1:9",
        None,
        &["--adapter", folder.path().to_str().unwrap(), "--repo", "mucha", "--card-only", out.to_str().unwrap()],
    );
    assert!(outcome.status.success(), "{}", said(&outcome));
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    assert!(
        card.starts_with("---\nlicense: apache-2.0\n") && card.contains("## Trigger words") && card.contains("images/01-base.png"),
        "{card}"
    );
    assert!(out.join("images/01.png").is_file() && out.join("pytorch_lora_weights.safetensors").is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_said_in_one_line_without_the_token() {
    let hub = Loopback::start().await;
    let folder = tempfile::tempdir().unwrap();
    training(folder.path());
    let path = folder.path().to_str().unwrap();
    let good = ["--adapter", path, "--repo", "ada/mucha"];
    let with = |more: &[&'static str]| good.iter().copied().chain(more.iter().copied()).collect::<Vec<&str>>();
    hub.fault("/preupload/", Fault::Status(403));
    let cases: [(Option<&str>, Vec<&str>, i32, &str); 7] = [
        (None, with(&["--yes"]), 2, "token"),
        (Some("hf_unknown"), with(&["--yes"]), 2, "does not know this token"),
        (Some(READER), with(&["--yes"]), 2, "reading only"),
        (Some(WRITER), with(&[]), 2, "--yes"),
        (Some(WRITER), with(&["--yes"]), 2, "may not take files"),
        (Some(WRITER), with(&["--yes", "--license", "wtf"]), 2, "apache-2.0"),
        (Some(WRITER), vec!["--adapter", "nowhere", "--repo", "a/b/c"], 2, "no name for a repository"),
    ];
    for (token, arguments, code, words) in cases {
        let outcome = atelier(&hub.endpoint, token, &arguments);
        let stderr = String::from_utf8_lossy(&outcome.stderr).into_owned();
        let last = stderr.lines().last().unwrap_or_default();
        assert!(outcome.status.code() == Some(code) && last.starts_with("error: ") && last.contains(words), "{words}: {}", said(&outcome));
        assert!(token.is_none_or(|token| !said(&outcome).contains(token)), "{}", said(&outcome));
    }
    assert!(hub.state().repos.is_empty());
    let outcome = atelier("http://127.0.0.1:9", Some(WRITER), &with(&["--yes"]));
    assert!(outcome.status.code() == Some(1) && said(&outcome).contains("could not be reached"), "{}", said(&outcome));
    let outcome = atelier("http://hub.example", Some(WRITER), &with(&["--yes"]));
    assert!(outcome.status.code() == Some(2) && said(&outcome).contains("not encrypted"), "{}", said(&outcome));
}

/// A second, independent reader: what Atelier published is what `huggingface_hub` downloads, and its card is one that it reads.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_reads_what_was_published() {
    let Some(python) = python::with("huggingface_hub") else { return };
    let hub = Loopback::start().await;
    let folder = tempfile::tempdir().unwrap();
    training(folder.path());
    let outcome = atelier(
        &hub.endpoint,
        Some(WRITER),
        &["--adapter", folder.path().to_str().unwrap(), "--repo", "ada/impressionist", "--private", "--yes"],
    );
    assert!(outcome.status.success(), "{}", said(&outcome));
    python.run("read_published.py", &hub.endpoint, WRITER, &["ada/impressionist", folder.path().to_str().unwrap()]);
}

/// The other way round: what the Python client uploads to this hub is what Atelier's own client reads, so the hub speaks the protocol.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_writes_and_atelier_reads() {
    let Some(python) = python::with("huggingface_hub") else { return };
    let hub = Loopback::start().await;
    python.run("upload.py", &hub.endpoint, WRITER, &["ada/by-python"]);
    let (client, repo) = (super::client(&hub, WRITER), "ada/by-python".parse().unwrap());
    let info = client.info(&repo).await.unwrap().expect("there");
    assert_eq!(client.download(&repo, &info.sha, "notes.txt").await.unwrap(), "written by python\n");
    assert_eq!(client.download(&repo, "main", "weights.safetensors").await.unwrap().len(), 100_000);
    assert_eq!(client.tree(&repo, &info.sha).await.unwrap()["weights.safetensors"].lfs.as_ref().unwrap().size, 100_000);
}

/// diffusers loads the published adapter and paints what Atelier paints. Half a minute; run it by
/// `cargo test --release --test hub -- --ignored diffusers`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs diffusers, peft and torch, and half a minute"]
async fn diffusers_paints_the_same_picture() {
    let python = python::with("diffusers").expect("a Python with diffusers, at ATELIER_PYTHON or in .venv");
    let hub = Loopback::start().await;
    let folder = tempfile::tempdir().unwrap();
    training(folder.path());
    let outcome =
        atelier(&hub.endpoint, Some(WRITER), &["--adapter", folder.path().to_str().unwrap(), "--repo", "ada/impressionist", "--yes"]);
    assert!(outcome.status.success(), "{}", said(&outcome));
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let noise = PackedLatents::noise(7, 1, Size::new(256, 256).unwrap(), &Device::Cpu).unwrap();
    safetensors::serialize_to_file([("noise", &noise.0)], None, Path::new(&at("noise.safetensors"))).unwrap();
    for (name, adapter) in [("base.png", None), ("adapted.png", Some(folder.path()))] {
        let mut paint = Command::new(env!("CARGO_BIN_EXE_atelier"));
        paint.args(["generate", "--prompt", PROMPT, "--seed", "7", "--steps", "8", "--out", &at(name)]);
        paint.args(adapter.iter().flat_map(|adapter| [Path::new("--adapter"), adapter]));
        assert!(paint.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
    }
    python.run(
        "paint.py",
        &hub.endpoint,
        WRITER,
        &["ada/impressionist", &at("noise.safetensors"), &at("base.png"), &at("adapted.png"), PROMPT],
    );
}

const PROMPT: &str = "a lake with mountains at sunset, impressionist painting";
