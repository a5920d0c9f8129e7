//! `atelier train` from pictures to an adapter that `generate` takes.

use super::program::{Outcome, atelier, command, names, root};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Three pictures of a sample set, without captions.
fn pictures(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    fs::create_dir(&data).unwrap();
    for i in 1..=3 {
        let name = format!("impressionist_0{i}.jpg");
        fs::copy(root().join("public/style-sets/impressionist").join(&name), data.join(name)).unwrap();
    }
    data
}

fn train(data: &Path, out: &Path, own: &[&str]) -> Outcome {
    // A constant rate: a falling one depends on the number of steps, which a resume may change.
    let shared = ["--trigger", "dabbed", "--resolution", "64x64", "--rank", "2", "--set", "buckets=false", "--set", "schedule=constant"];
    let paths = ["train", "--data", data.to_str().unwrap(), "--out", out.to_str().unwrap()];
    atelier(paths.iter().chain(&shared).chain(own))
}

#[test]
fn pictures_become_an_adapter_that_generate_takes() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (pictures(folder.path()), folder.path().join("run"));
    let outcome = train(&data, &out, &["--steps", "3", "--checkpoint-every", "2", "--audit"]).good();
    assert!(outcome.stdout.contains("impressionist_02.jpg") && outcome.stdout.contains("dabbed"), "the audit: {outcome}");
    assert!(outcome.stdout.contains("atelier generate"), "how to use it: {outcome}");
    assert!(outcome.stderr.is_empty(), "{outcome}");
    assert!(out.join("pytorch_lora_weights.safetensors").is_file() && out.join("adapter.json").is_file());
    assert_eq!(names(&data).len(), 3, "the pictures' folder is left as it was");

    let picture = folder.path().join("picture.png");
    let small = ["--width", "64", "--height", "64", "--steps", "1", "--prompt", "x", "--out"];
    atelier(
        ["generate", "--adapter", out.to_str().unwrap()]
            .iter()
            .chain(&small)
            .map(|s| s.to_string())
            .chain([picture.to_str().unwrap().to_owned()]),
    )
    .good();
    let recipe = atelier::store::png::recipe(&fs::read(&picture).unwrap()).unwrap();
    assert_eq!(recipe["adapters"][0]["name"], "run");

    train(&data, &out, &["--steps", "3"]).refused("already holds a run");
}

#[test]
fn a_resumed_run_ends_as_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let (straight, broken) = (folder.path().join("straight"), folder.path().join("broken"));
    train(&data, &straight, &["--steps", "4", "--checkpoint-every", "2"]).good();
    train(&data, &broken, &["--steps", "2", "--checkpoint-every", "2"]).good();
    train(&data, &broken, &["--steps", "4", "--resume", "--set", "flip=true"]).refused("flip");
    let outcome = train(&data, &broken, &["--steps", "4", "--checkpoint-every", "2", "--resume", "--json"]).good();
    assert_eq!(outcome.json()["steps"], 4, "{outcome}");
    let adapter = |run: &Path| fs::read(run.join("pytorch_lora_weights.safetensors")).unwrap();
    let weights = |bytes: Vec<u8>| {
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    assert!(weights(adapter(&straight)) == weights(adapter(&broken)), "bit for bit");
}

#[cfg(unix)]
#[test]
fn ctrl_c_writes_a_checkpoint_and_says_how_to_go_on() {
    use std::{process::Stdio, time::Duration};
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (pictures(folder.path()), folder.path().join("run"));
    let paths = ["train", "--data", data.to_str().unwrap(), "--out", out.to_str().unwrap(), "--trigger", "dabbed"];
    let own = [
        "--resolution",
        "64x64",
        "--rank",
        "2",
        "--steps",
        "5000",
        "--set",
        "buckets=false",
        "--set",
        "schedule=constant",
        "--checkpoint-every",
        "2",
    ];
    let child = command().args(paths).args(own).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    for _ in 0..600 {
        std::thread::sleep(Duration::from_millis(50));
        if out.is_dir() && names(&out).iter().any(|name| name.contains("checkpoint")) {
            break;
        }
    }
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("--resume") && said.contains("checkpoint"), "{said}");
    let step: usize = said.split("stopped at step ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();

    let more = (step + 1).to_string();
    let outcome = train(&data, &out, &["--steps", &more, "--checkpoint-every", "2", "--resume", "--json"]).good();
    assert_eq!(outcome.json()["steps"], step + 1, "{outcome}");
}
