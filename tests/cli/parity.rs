//! `atelier parity` on the reference tensors, whole and damaged.

use super::program::{Outcome, atelier, copy_folder, fixtures};
use std::{fs, path::Path};

fn parity(folder: &Path) -> Outcome {
    atelier(["parity", "--model", "models/flux-mini", folder.to_str().unwrap()])
}

/// A copy of the fixtures that holds the named files only, with meta.json cut to match.
fn some(files: &[&str], sections: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        fs::copy(fixtures().join(file), folder.path().join(file)).unwrap();
    }
    let mut meta: serde_json::Value = serde_json::from_slice(&fs::read(fixtures().join("meta.json")).unwrap()).unwrap();
    meta.as_object_mut().unwrap().retain(|key, _| sections.contains(&key.as_str()));
    fs::write(folder.path().join("meta.json"), meta.to_string()).unwrap();
    folder
}

/// Where the bytes of a tensor begin in a safetensors file.
fn offset(bytes: &[u8], key: &str) -> usize {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    8 + length + header[key]["data_offsets"][0].as_u64().unwrap() as usize
}

fn damage(file: &Path, key: &str, value: f32) {
    let mut bytes = fs::read(file).unwrap();
    let at = offset(&bytes, key);
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    fs::write(file, bytes).unwrap();
}

#[test]
fn every_stage_agrees_with_the_reference() {
    let outcome = parity(&fixtures()).good();
    assert!(!outcome.stdout.contains("FAIL") && outcome.stdout.contains("checks pass"), "{outcome}");
    for stage in ["text", "transformer_256x256", "transformer_192x288", "schedule", "sampling", "vae", "lora_output", "lora_step"] {
        assert!(outcome.stdout.lines().any(|line| line.starts_with(&format!("{stage} "))), "{stage}: {outcome}");
    }
}

#[test]
fn one_damaged_number_falls_short() {
    for (file, key, value) in [("schedule", "sigmas_20_512x768", 0.999), ("text", "clip_pooled", 9.0), ("vae", "mean", f32::NAN)] {
        let file = format!("{file}.safetensors");
        let folder = some(
            &[&file],
            &["prompts", "schedule_mu", "vae"]
                .into_iter()
                .filter(|s| match *s {
                    "prompts" => file.starts_with("text"),
                    "schedule_mu" => file.starts_with("schedule"),
                    section => file.starts_with(section),
                })
                .collect::<Vec<_>>(),
        );
        parity(folder.path()).good();
        damage(&folder.path().join(&file), key, value);
        let outcome = parity(folder.path());
        assert_eq!(outcome.code, Some(1), "{outcome}");
        assert!(outcome.stdout.lines().any(|line| line.contains(key) && line.contains("FAIL")), "{outcome}");
        assert!(outcome.stderr.is_empty(), "{outcome}");
    }
}

#[test]
fn one_wrong_token_falls_short_and_json_names_it() {
    let folder = some(&["text.safetensors"], &["prompts"]);
    let file = folder.path().join("text.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let at = offset(&bytes, "t5_ids_64");
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
    let outcome = atelier(["parity", "--json", folder.path().to_str().unwrap()]);
    assert_eq!(outcome.code, Some(1), "{outcome}");
    let rows = outcome.json()["rows"].as_array().unwrap().clone();
    let failed: Vec<_> = rows.iter().filter(|row| row["pass"] == false).collect();
    assert_eq!(failed.len(), 1, "{outcome}");
    assert!(failed[0]["check"] == "t5_ids_64" && failed[0]["note"].as_str().unwrap().contains("prompt 0, token 0"), "{outcome}");
}

#[test]
fn missing_and_corrupt_files_are_said_in_a_sentence() {
    parity(Path::new("no/such/folder")).refused("no such folder");
    let folder = tempfile::tempdir().unwrap();
    parity(folder.path()).refused("meta.json");
    fs::write(folder.path().join("meta.json"), "{}").unwrap();
    parity(folder.path()).refused("no reference tensors");
    fs::write(folder.path().join("meta.json"), "{ not json").unwrap();
    parity(folder.path()).refused("not JSON");

    let folder = some(&["vae.safetensors"], &["vae", "sampling"]);
    parity(folder.path()).refused("sampling.safetensors: missing");
    let folder = some(&["vae.safetensors"], &["vae"]);
    let file = folder.path().join("vae.safetensors");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    parity(folder.path()).refused("vae.safetensors: truncated");
    fs::write(&file, b"what?").unwrap();
    parity(folder.path()).refused("vae.safetensors: truncated");
}

#[test]
fn another_model_is_no_match() {
    let model = tempfile::tempdir().unwrap();
    copy_folder(Path::new("models/flux-mini"), model.path());
    // The first sixteen weights of the text projection, as bf16 ones.
    let file = model.path().join("transformer/diffusion_pytorch_model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let at = offset(&bytes, "context_embedder.weight");
    for weight in bytes[at..at + 4096].chunks_mut(2) {
        weight.copy_from_slice(&[0x80, 0x3f]);
    }
    fs::write(&file, bytes).unwrap();
    let folder = some(&["transformer_192x288.safetensors"], &[]);
    parity(folder.path()).good();
    let outcome = atelier(["parity", "--model", model.path().to_str().unwrap(), folder.path().to_str().unwrap()]);
    assert_eq!(outcome.code, Some(1), "{outcome}");
}
