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
    assert_eq!(atelier(["doctor", "--model", "no/such/model"]).code, Some(1));
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
