//! Model folders and parameters that cannot work: a sentence with the file and what was expected, never a panic.

use crate::fixtures::{MODEL, pipeline, refusal};
use candle_core::{DType, Device, Tensor};
use engine::{
    Adapter, Error, GenerateParams, LoraPair, Pipeline, Precision, Size,
    latents::PackedLatents,
    transformer::{Step, Transformer},
};
use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// A copy of flux-mini to break.
fn copy() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("broken");
    copy_folder(Path::new(MODEL), &model);
    (folder, model)
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn load(model: &Path) -> Result<Pipeline, Error> {
    Pipeline::load(model, &Device::Cpu)
}

#[track_caller]
fn assert_says(sentence: &str, parts: &[&str]) {
    assert!(parts.iter().all(|part| sentence.contains(part)), "{sentence:?} should say {parts:?}");
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from));
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn folders_that_are_not_flux() {
    assert_says(&refusal(load(Path::new("/no/such/model"))), &["/no/such/model", "no such folder"]);
    let empty = tempfile::tempdir().unwrap();
    assert_says(&refusal(load(empty.path())), &["model_index.json"]);
    fs::write(empty.path().join("model_index.json"), r#"{"_class_name": "StableDiffusionPipeline"}"#).unwrap();
    assert_says(&refusal(load(empty.path())), &["StableDiffusionPipeline", "FluxPipeline"]);
    fs::write(empty.path().join("model_index.json"), r#"{"_class_name": "FluxPipeline"}"#).unwrap();
    assert_says(&refusal(load(empty.path())), &["missing"]);
}

#[test]
fn missing_and_broken_files() {
    let (_folder, model) = copy();
    for name in ["vae/config.json", "tokenizer/merges.txt", "tokenizer_2/tokenizer.json", "scheduler/scheduler_config.json"] {
        let (file, aside) = (model.join(name), model.join("aside"));
        fs::rename(&file, &aside).unwrap();
        assert_says(&refusal(load(&model)), &[name, "missing"]);
        fs::write(&file, "{ not json").unwrap();
        assert_says(&refusal(load(&model)), &[name.split('/').next().unwrap()]);
        fs::rename(&aside, &file).unwrap();
    }
    assert!(load(&model).is_ok());
}

#[test]
fn truncated_weights() {
    let (_folder, model) = copy();
    let weights = model.join("transformer/diffusion_pytorch_model.safetensors");
    let whole = fs::read(&weights).unwrap();
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&weights, &whole[..length]).unwrap();
        assert_says(&refusal(load(&model)), &["diffusion_pytorch_model.safetensors"]);
    }
    fs::remove_file(&weights).unwrap();
    assert_says(&refusal(load(&model)), &["no weights"]);
}

#[test]
fn weights_that_do_not_fit_the_config() {
    let (_folder, model) = copy();
    let config = model.join("transformer/config.json");
    edit(&config, r#""num_single_layers": 6"#, r#""num_single_layers": 7"#);
    assert_says(&refusal(load(&model)), &["single_transformer_blocks.6.", "missing"]);
    edit(&config, r#""num_single_layers": 7"#, r#""num_single_layers": 6"#);
    edit(&config, r#""joint_attention_dim": 192"#, r#""joint_attention_dim": 4096"#);
    assert_says(&refusal(load(&model)), &["context_embedder.weight", "[256, 192]", "[256, 4096]"]);
    edit(&config, r#""joint_attention_dim": 4096"#, r#""joint_attention_dim": 192"#);
    edit(&config, r#""in_channels": 64"#, r#""in_channels": 384"#);
    assert_says(&refusal(load(&model)), &["in_channels 384"]);
}

/// Splits the transformer in two shards with an index, as large models come.
#[test]
fn sharded_weights() {
    let (_folder, model) = copy();
    let part = model.join("transformer");
    let single = part.join("diffusion_pytorch_model.safetensors");
    let tensors = candle_core::safetensors::load(&single, &Device::Cpu).unwrap();
    let names = ["diffusion_pytorch_model-00001-of-00002.safetensors", "diffusion_pytorch_model-00002-of-00002.safetensors"];
    let shard_of = |key: &str| usize::from(key.starts_with("single"));
    for (i, name) in names.iter().enumerate() {
        let own: std::collections::HashMap<_, _> =
            tensors.iter().filter(|(key, _)| shard_of(key) == i).map(|(k, t)| (k.clone(), t.clone())).collect();
        candle_core::safetensors::save(&own, part.join(name)).unwrap();
    }
    let map: serde_json::Map<_, _> = tensors.keys().map(|key| (key.clone(), names[shard_of(key)].into())).collect();
    let index = part.join("diffusion_pytorch_model.safetensors.index.json");
    fs::write(&index, serde_json::json!({ "weight_map": map }).to_string()).unwrap();
    fs::remove_file(single).unwrap();

    let sharded = Transformer::load(&model, &Device::Cpu, Precision::F32).unwrap();
    assert_eq!(sharded.linears().len(), pipeline().transformer.linears().len());
    fs::remove_file(part.join(names[1])).unwrap();
    assert_says(&refusal(Transformer::load(&model, &Device::Cpu, Precision::F32)), &[names[1], "missing"]);
    fs::write(&index, r#"{"weight_map": {"x": "../../secret.safetensors"}}"#).unwrap();
    assert_says(&refusal(Transformer::load(&model, &Device::Cpu, Precision::F32)), &["plain file name"]);
}

/// A model without guidance embedding (as FLUX.1-schnell) loads, and does not ask for a guidance.
#[test]
fn without_guidance_embedding() {
    let (_folder, model) = copy();
    edit(&model.join("transformer/config.json"), r#""guidance_embeds": true"#, r#""guidance_embeds": false"#);
    let transformer = Transformer::load(&model, &Device::Cpu, Precision::F32).unwrap();
    assert_eq!(transformer.linears().len(), 86);
    let size = Size::new(32, 32).unwrap();
    let conditioning = pipeline().text_encoder.encode(&["a boat"], 8).unwrap();
    let noise = PackedLatents::noise(0, 1, size, &Device::Cpu).unwrap();
    let step = Step { size, conditioning: &conditioning, sigma: &[1.0], guidance: &[], modulations: None };
    let velocity = transformer.forward(&noise, &step, &engine::AdapterSet::base()).unwrap();
    assert_eq!(velocity.dims(), &[1, 4, 64]);
}

#[test]
fn parameters_out_of_bounds() {
    let size = Size::new(64, 64).unwrap();
    let with = |change: &dyn Fn(&mut GenerateParams)| {
        let mut params = GenerateParams::new("a boat", size);
        change(&mut params);
        refusal(pipeline().start(params))
    };
    assert_says(&with(&|p| p.steps = 0), &["steps 0", "200"]);
    assert_says(&with(&|p| p.count = 17), &["count 17", "16"]);
    assert_says(&with(&|p| p.guidance = f64::NAN), &["guidance"]);
    assert_says(&with(&|p| p.max_sequence_length = 513), &["513", "512"]);
    assert_says(&with(&|p| p.prompt = "a".repeat(100_000)), &["100000 characters"]);
    assert_says(&refusal(Size::new(250, 256)), &["multiples of 16"]);
    assert_says(&refusal(pipeline().text_encoder.encode(&["x"], 0)), &["from 1 to 512"]);
}

/// Finite weights so large that the picture is not.
#[test]
fn pictures_that_run_off_to_infinity() {
    let size = Size::new(32, 32).unwrap();
    let huge = |shape| (Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap() * 1e30).unwrap();
    let pair = LoraPair { a: huge((1, 256)), b: huge((64, 1)), scale: 1.0 };
    let adapter = Adapter::of_pairs("huge", [("proj_out".to_owned(), pair)], Default::default());
    let params =
        GenerateParams { steps: 1, max_sequence_length: 8, adapters: vec![(adapter.into(), 1.0)], ..GenerateParams::new("a boat", size) };
    assert_says(&refusal(pipeline().generate(params, &mut |_| ControlFlow::Continue(()))), &["infinity", "strength"]);
}

#[test]
fn shapes_that_disagree() {
    let size = Size::new(64, 64).unwrap();
    let conditioning = pipeline().text_encoder.encode(&["a boat"], 8).unwrap();
    let forward = |tokens: usize, sigma: &[f64]| {
        let latents = PackedLatents(Tensor::zeros((2, tokens, 64), DType::F32, &Device::Cpu).unwrap());
        let step = Step { size, conditioning: &conditioning, sigma, guidance: &[1.0, 1.0], modulations: None };
        pipeline().transformer.forward(&latents, &step, &engine::AdapterSet::base())
    };
    assert!(forward(16, &[1.0, 0.5]).is_ok());
    assert_says(&refusal(forward(15, &[1.0, 0.5])), &["64x64", "[2, 16, 64]"]);
    assert_says(&refusal(forward(16, &[1.0])), &["1 sigmas"]);
    let odd = Tensor::zeros((1, 3, 60, 64), DType::F32, &Device::Cpu).unwrap();
    assert_says(&refusal(pipeline().vae.encode(&odd)), &["multiples of 8"]);
}
