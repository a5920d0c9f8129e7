//! `atelier export`, `merge`, `quantize` and `inspect`; pictures from files of every layout.

use super::program::{atelier, root};
use std::{fs, path::Path};

const ADAPTER: &str = "tests/fixtures/flux-mini/lora_impressionist.safetensors";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The same prompt and seed, small.
fn draw(more: &[&str], out: &Path) -> Vec<u8> {
    let own = ["generate", "--prompt", "a lake", "--width", "64", "--height", "64", "--steps", "2", "--out", text(out)];
    atelier(own.iter().chain(more)).good();
    image::open(out).unwrap().to_rgb8().into_raw()
}

/// The mean difference of a channel, of 255.
fn difference(one: &[u8], other: &[u8]) -> f64 {
    one.iter().zip(other).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / one.len() as f64
}

#[test]
fn one_adapter_as_three_files_that_draw_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let drawn = draw(&["--adapter", ADAPTER], &folder.path().join("own.png"));
    assert!(difference(&drawn, &draw(&[], &folder.path().join("base.png"))) > 0.5);
    for format in ["diffusers", "kohya", "comfyui"] {
        let out = folder.path().join(format!("{format}.safetensors"));
        let said = atelier(["export", "--adapter", ADAPTER, "--format", format, "--out", text(&out), "--json"]).good().json();
        assert_eq!((&said["format"], &said["read_as"]), (&format.into(), &"diffusers".into()));
        assert!(said["largest_difference"].as_f64().unwrap() < 1e-6);
        let again = draw(&["--adapter", text(&out)], &folder.path().join("again.png"));
        assert!(difference(&drawn, &again) < 0.1, "{format}");
        let inspected = atelier(["inspect", text(&out), "--json"]).good().json();
        assert_eq!(inspected["matched"].as_array().unwrap().len() as u64, said["modules"].as_u64().unwrap());
        assert!(inspected["change"].as_f64().unwrap() > 1e-3, "{inspected}");
    }
    atelier(["export", "--adapter", ADAPTER, "--format", "paper", "--out", "x.safetensors"]).refused("kohya");
    atelier(["export", "--adapter", "nowhere", "--format", "kohya", "--out", "x.safetensors"]).refused("no such file");
    let dora = "tests/fixtures/formats/adapters/peft_dora";
    atelier(["export", "--adapter", dora, "--format", "kohya", "--out", text(&folder.path().join("x.safetensors"))])
        .refused("atelier merge");
}

#[test]
fn a_merged_base_draws_what_the_adapter_draws() {
    let folder = tempfile::tempdir().unwrap();
    let merged = folder.path().join("merged");
    let said = atelier(["merge", "--adapter", &format!("{ADAPTER}:0.8"), "--out", text(&merged), "--json"]).good().json();
    assert_eq!(said["left_out"].as_array().unwrap().len(), 0, "{said}");
    let mounted = draw(&["--adapter", &format!("{ADAPTER}:0.8")], &folder.path().join("mounted.png"));
    let baked = draw(&["--model", text(&merged)], &folder.path().join("baked.png"));
    // Weights were rounded to bf16.
    assert!(difference(&mounted, &baked) < 2.0, "{}", difference(&mounted, &baked));
    atelier(["merge", "--adapter", ADAPTER, "--out", text(&merged)]).refused("is there already");
    atelier(["merge", "--adapter", &format!("{ADAPTER}:0"), "--out", "never"]).refused("strength 0");
}

#[test]
fn a_quantised_model_says_what_it_lost_and_draws() {
    let folder = tempfile::tempdir().unwrap();
    let own = draw(&[], &folder.path().join("own.png"));
    for (form, name, least) in [("nf4", "four", 0.95), ("q8_0", "eight.gguf", 0.999), ("fp8", "eight.safetensors", 0.98)] {
        let out = folder.path().join(name);
        let table = atelier(["quantize", "--to", form, "--out", text(&out)]).good();
        assert!(table.stdout.contains("mean") && table.stdout.contains("cosine to the final latents"), "{table}");
        let cosine: f64 = table.stdout.trim().rsplit(' ').next().unwrap().parse().unwrap();
        assert!(cosine > least && cosine < 1.0, "{form}: {cosine}");
        let base = ["--base", "models/flux-mini"];
        let drawn = draw(&[&["--model", text(&out)][..], &base[if out.is_dir() { 2 } else { 0 }..]].concat(), &folder.path().join("x.png"));
        assert!(difference(&own, &drawn) < 12.0, "{form}: {}", difference(&own, &drawn));
    }
    atelier(["quantize", "--to", "q8_0", "--out", text(&folder.path().join("a.safetensors"))]).refused(".gguf");
    atelier(["quantize", "--to", "q9", "--out", "x"]).refused("q8_0");
}

#[test]
fn files_are_told_by_their_content() {
    let folder = tempfile::tempdir().unwrap();
    let misnamed = folder.path().join("t5.safetensors");
    fs::copy(root().join("tests/fixtures/formats/models/all_in_one.safetensors"), &misnamed).unwrap();
    let outcome = atelier(["inspect", text(&misnamed)]).good();
    for part in ["a transformer by BFL's names after model.diffusion_model.", "CLIP", "T5", "a VAE"] {
        assert!(outcome.stdout.contains(part), "{part}: {outcome}");
    }
    let small = draw(&["--model", text(&misnamed), "--base", "models/flux-mini"], &folder.path().join("x.png"));
    assert_eq!(small.len(), 3 * 64 * 64);
    let alone = ["--width", "64", "--height", "64", "--steps", "1", "--out", "never.png", "--prompt", "x"];
    atelier(["generate", "--model", text(&misnamed)].iter().chain(&alone)).refused("tokenizers");
    let adapter = ["generate", "--model", ADAPTER];
    atelier(adapter.iter().chain(&alone)).refused("--adapter");
    atelier(["inspect", "README.md"]).refused("README.md");
}
