//! `atelier doctor` and `atelier bench`.

use super::program::{atelier, copy_folder, root};
use std::fs;

#[test]
fn the_doctor_finds_a_whole_model_whole() {
    let outcome = atelier(["doctor"]).good();
    for part in ["text_encoder", "text_encoder_2", "transformer", "vae", "bf16", "loads in"] {
        assert!(outcome.stdout.contains(part), "{part}: {outcome}");
    }
    let found = atelier(["doctor", "--json"]).good().json();
    assert_eq!(found["healthy"], true);
    let parameters: u64 = found["parts"].as_array().unwrap().iter().map(|part| part["parameters"].as_u64().unwrap()).sum();
    assert!((20_000_000..23_000_000).contains(&parameters), "{parameters}");
    assert!(found["machine"]["memory_bytes"].as_u64().unwrap() > 1 << 28);
}

#[test]
fn the_doctor_names_what_is_missing_and_a_cure() {
    let model = tempfile::tempdir().unwrap();
    copy_folder(&root().join("models/flux-mini"), model.path());
    let weights = model.path().join("vae/diffusion_pytorch_model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() - 5]).unwrap();
    fs::remove_dir_all(model.path().join("tokenizer_2")).unwrap();
    let outcome = atelier(["doctor", "--model", model.path().to_str().unwrap()]);
    assert_eq!(outcome.code, Some(1), "{outcome}");
    assert!(outcome.stdout.contains("tokenizer_2") && outcome.stdout.contains("bytes instead of"), "{outcome}");
    assert!(outcome.stdout.contains("--model"), "a cure: {outcome}");
    let outcome = atelier(["doctor", "--model", "no/such/model"]);
    assert!(outcome.code == Some(1) && outcome.stdout.contains("no such folder"), "{outcome}");
    // Why a file is refused, and not that it is no folder.
    let adapter = "tests/fixtures/flux-mini/lora_impressionist.safetensors";
    let outcome = atelier(["doctor", "--model", adapter]);
    assert!(outcome.code == Some(1) && outcome.stdout.contains("give it as --adapter"), "{outcome}");
}

#[test]
fn the_bench_measures() {
    let outcome = atelier(["bench", "--size", "64x64", "--steps", "1", "--json"]).good();
    let measured = outcome.json();
    for key in ["load_s", "first_picture_s", "picture_s", "train_step_s", "peak_rss_mib"] {
        assert!(measured[key].as_f64().is_some_and(|value| value > 0.0), "{key}: {outcome}");
    }
    assert!(measured["first_picture_s"].as_f64() >= measured["load_s"].as_f64());
    assert_eq!((&measured["size"], &measured["steps"], &measured["t5_length"]), (&"64x64".into(), &1.into(), &128.into()));
    atelier(["bench", "--size", "63x64"]).refused("multiples of 16");
    atelier(["bench", "--repeat", "0"]).refused("repeat");
}

#[test]
fn the_bench_times_single_steps_of_a_synthetic_model() {
    let own = ["--synthetic", "flux-mini", "--device", "cpu", "--text-tokens", "16", "--repeat", "3", "--warm-up", "1"];
    let bench = |more: &[&str]| atelier(["bench"].iter().chain(more).chain(&own));
    let drawn = bench(&["generate", "--size", "64x64,48x96", "--steps", "2", "--json"]).good().json();
    assert_eq!(drawn.as_array().unwrap().len(), 2);
    for one in drawn.as_array().unwrap() {
        assert_eq!((&one["mode"], &one["precision"], &one["model"]), (&"generate".into(), &"f32".into(), &"synthetic flux-mini".into()));
        assert_eq!(one["seconds"].as_array().unwrap().len(), 3, "{one}");
        for key in ["step_s", "tflops_per_second", "predicted_bytes", "picture_s", "encode_s", "decode_s"] {
            assert!(one[key].as_f64().is_some_and(|value| value > 0.0), "{key}: {one}");
        }
        assert!(one["floor_s"].is_null() && one["peak_bytes"].is_null(), "a CPU has neither: {one}");
    }
    let trained = bench(&["train", "--size", "64x64", "--policy", "full", "--json"]).good().json();
    assert_eq!((&trained[0]["checkpointing"], &trained[0]["rank"]), (&"full".into(), &4.into()));
    assert_eq!(trained[0]["seconds"].as_array().unwrap().len(), 3);
    let table = bench(&["train", "--size", "64x64"]).good();
    assert!(
        table.stdout.contains("synthetic flux-mini on") && table.stdout.lines().any(|line| line.starts_with("train     64x64")),
        "{table}"
    );
    bench(&["train", "--policy", "some"]).refused("auto, none, smart, full");
    atelier(["bench", "generate", "--synthetic", "flux-huge"]).refused("flux-dev");
    bench(&["generate", "--repeat", "0"]).refused("repeat");
}

#[test]
fn a_gpu_that_is_not_there_is_refused_and_auto_finds_the_cpu() {
    let outcome = atelier(["doctor", "--device", "auto"]).good();
    assert!(outcome.stdout.lines().any(|line| line.starts_with("gpu ")), "{outcome}");
    let small = ["generate", "--prompt", "x", "--width", "64", "--height", "64", "--steps", "1", "--out", "never.png"];
    atelier(small.iter().chain(&["--device", "cuda:9"])).refused("cuda:9");
    atelier(small.iter().chain(&["--device", "gpu"])).refused("cuda:0");
    atelier(small.iter().chain(&["--precision", "int3"])).refused("nf4");
}
