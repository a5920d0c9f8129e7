//! Adapter files: what is read, what is written, what is refused.

use crate::fixtures::{path, pipeline, refusal, values};
use candle_core::{DType, Device, Tensor};
use engine::{Adapter, AdapterSet, LoraPair, Result, adapter::Target};
use std::{collections::HashMap, sync::Arc};

const Q: &str = "transformer_blocks.0.attn.to_q";
const OUT: &str = "proj_out";

/// A safetensors file of the given tensors and header.
fn file(tensors: &[(&str, Tensor)], header: Option<serde_json::Value>) -> Vec<u8> {
    let metadata = header.map(|header| HashMap::from([("lora_adapter_metadata".to_owned(), header.to_string())]));
    safetensors::serialize(tensors.iter().map(|(key, tensor)| (*key, tensor)), metadata).unwrap()
}

fn ones(rows: usize, columns: usize) -> Tensor {
    Tensor::ones((rows, columns), DType::F32, &Device::Cpu).unwrap()
}

fn alpha(value: f32) -> Tensor {
    Tensor::new(value, &Device::Cpu).unwrap()
}

fn pair(module: &str, rank: usize) -> [(String, Tensor); 2] {
    let layer = pipeline().transformer.linears().iter().find(|layer| layer.path == module).unwrap();
    let key = |half| format!("transformer.{module}.lora_{half}.weight");
    [(key('A'), ones(rank, layer.in_features)), (key('B'), ones(layer.out_features, rank))]
}

/// Reads a file with pairs on the query projection (rank 4) and the output layer (rank 2) beside the given tensors.
fn read(extra: &[(&str, Tensor)], header: Option<serde_json::Value>) -> Result<Adapter> {
    let pairs: Vec<_> = pair(Q, 4).into_iter().chain(pair(OUT, 2)).collect();
    let tensors: Vec<_> = pairs.iter().map(|(key, tensor)| (key.as_str(), tensor.clone())).chain(extra.iter().cloned()).collect();
    Adapter::from_bytes("test", &file(&tensors, header), &Device::Cpu)
}

fn paths(coverage: &engine::Coverage) -> Vec<&str> {
    coverage.matched.iter().map(|matched| matched.path.as_str()).collect()
}

fn scales(adapter: &Adapter) -> (f64, f64) {
    (adapter.modules[Q].scale(), adapter.modules[OUT].scale())
}

#[test]
fn without_alpha_the_scale_is_one() {
    assert_eq!(scales(&read(&[], None).unwrap()), (1.0, 1.0));
}

#[test]
fn alpha_from_tensors() {
    let (q, out) = ("transformer.transformer_blocks.0.attn.to_q.alpha", "transformer.proj_out.alpha");
    assert_eq!(scales(&read(&[(q, alpha(2.0)), (out, alpha(8.0))], None).unwrap()), (0.5, 4.0));
    // A module without its own takes the most common one, as in diffusers.
    assert_eq!(scales(&read(&[(q, alpha(2.0))], None).unwrap()), (0.5, 1.0));
}

#[test]
fn alpha_from_the_header() {
    let plain = serde_json::json!({"transformer.r": 4, "transformer.lora_alpha": 8, "transformer.rank_pattern": {"^proj_out": 2}});
    assert_eq!(scales(&read(&[], Some(plain)).unwrap()), (2.0, 4.0));
    let patterns = serde_json::json!({
        "transformer.r": 2, "transformer.lora_alpha": 2, "transformer.use_rslora": true,
        "transformer.rank_pattern": {"to_q": 4}, "transformer.alpha_pattern": {"attn.to_[qk]": 6.0},
    });
    assert_eq!(scales(&read(&[], Some(patterns)).unwrap()), (3.0, 2.0 / 2f64.sqrt()));
}

#[test]
fn contradictory_alpha_and_rank_are_refused() {
    let header = serde_json::json!({"transformer.r": 4, "transformer.lora_alpha": 8, "transformer.rank_pattern": {"proj_out": 2}});
    let twice = read(&[("transformer.proj_out.alpha", alpha(2.0))], Some(header));
    assert!(refusal(twice).contains("alpha is given twice"));
    let other_rank = serde_json::json!({"transformer.r": 4, "transformer.lora_alpha": 8});
    assert!(refusal(read(&[], Some(other_rank))).contains("proj_out has rank 2, but its header says 4"));
    let ranks = serde_json::json!({"proj_out": 2});
    let dora = serde_json::json!({
        "transformer.r": 4, "transformer.lora_alpha": 8, "transformer.rank_pattern": ranks, "transformer.use_dora": true,
    });
    assert!(refusal(read(&[], Some(dora))).contains("DoRA"));
}

#[test]
fn bf16_and_f16_are_read() {
    for dtype in [DType::BF16, DType::F16] {
        let pairs = pair(Q, 4).map(|(key, tensor)| (key, (tensor * 0.5).unwrap().to_dtype(dtype).unwrap()));
        let tensors: Vec<_> = pairs.iter().map(|(key, tensor)| (key.as_str(), tensor.clone())).collect();
        let adapter = Adapter::from_bytes("half", &file(&tensors, None), &Device::Cpu).unwrap();
        let pair = adapter.modules[Q].pair().unwrap();
        assert!(values(&pair.a).iter().all(|x| *x == 0.5));
        assert_eq!(pair.a.dtype(), DType::F32);
    }
}

#[test]
fn text_encoder_keys_are_reported() {
    let text = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj";
    let (a, b) = (format!("{text}.lora_A.weight"), format!("{text}.lora_B.weight"));
    let adapter = Arc::new(read(&[(&a, ones(4, 128)), (&b, ones(128, 4))], None).unwrap());
    let (_, coverage) = AdapterSet::mount(&pipeline().transformer, &[(adapter, 1.0)]).unwrap();
    assert_eq!(paths(&coverage[0]), [OUT, Q]);
    assert_eq!(coverage[0].unmatched[0].0, text);
    assert!(coverage[0].unmatched[0].1.contains("text encoder"));
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let key = |half| format!("transformer.{Q}.lora_{half}.weight");
    let tensors = [(key('A'), ones(4, 3072)), (key('B'), ones(3072, 4))];
    let tensors: Vec<_> = tensors.iter().map(|(key, tensor)| (key.as_str(), tensor.clone())).collect();
    let adapter = Arc::new(Adapter::from_bytes("large", &file(&tensors, None), &Device::Cpu).unwrap());
    let sentence = refusal(AdapterSet::mount(&pipeline().transformer, &[(adapter, 1.0)]));
    assert!(sentence.contains("none of its 1 modules fits") && sentence.contains("3072 to 3072"), "{sentence}");
}

#[test]
fn a_partial_match_is_reported_key_by_key() {
    let far = ["transformer.transformer_blocks.18.attn.to_q.lora_A.weight", "transformer.transformer_blocks.18.attn.to_q.lora_B.weight"];
    let adapter = Arc::new(read(&[(far[0], ones(4, 256)), (far[1], ones(256, 4))], None).unwrap());
    let (_, coverage) = AdapterSet::mount(&pipeline().transformer, &[(adapter, 1.0)]).unwrap();
    assert_eq!(coverage[0].matched.len(), 2);
    assert_eq!(coverage[0].unmatched, [("transformer_blocks.18.attn.to_q".to_owned(), "this model has no such layer".to_owned())]);
}

#[test]
fn broken_files_are_refused() {
    let lonely = [("transformer.proj_out.lora_A.weight", ones(2, 256))];
    assert!(refusal(Adapter::from_bytes("x", &file(&lonely, None), &Device::Cpu)).contains("proj_out has a lora_A but no lora_B"));
    let lonely = [("transformer.proj_out.lora_B.weight", ones(64, 2))];
    assert!(refusal(Adapter::from_bytes("x", &file(&lonely, None), &Device::Cpu)).contains("proj_out has a lora_B but no lora_A"));
    let uneven = [("transformer.proj_out.lora_A.weight", ones(2, 256)), ("transformer.proj_out.lora_B.weight", ones(64, 3))];
    assert!(refusal(Adapter::from_bytes("x", &file(&uneven, None), &Device::Cpu)).contains("no common rank"));
    let poisoned = (ones(2, 256) * f64::NAN).unwrap();
    let nan = [("transformer.proj_out.lora_A.weight", poisoned), ("transformer.proj_out.lora_B.weight", ones(64, 2))];
    assert!(refusal(Adapter::from_bytes("x", &file(&nan, None), &Device::Cpu)).contains("NaN"));
    let kohya = [("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight", ones(4, 256))];
    assert!(refusal(Adapter::from_bytes("x", &file(&kohya, None), &Device::Cpu)).contains("no lora_B"));
    assert!(refusal(Adapter::from_bytes("x", &file(&[], None), &Device::Cpu)).contains("not a LoRA file"));
    let foreign = [("lora_unet_input_blocks_4_1_proj_in.lora_down.weight", ones(4, 320))];
    let sentence = refusal(Adapter::from_bytes("x", &file(&foreign, None), &Device::Cpu));
    assert!(sentence.contains("not a LoRA file of FLUX.1") && sentence.contains("input_blocks_4_1_proj_in"), "{sentence}");
    assert!(refusal(Adapter::from_bytes("x", b"not a safetensors file", &Device::Cpu)).contains("truncated or not a safetensors file"));
    let whole = std::fs::read(path("lora_impressionist.safetensors")).unwrap();
    assert!(refusal(Adapter::from_bytes("x", &whole[..whole.len() / 2], &Device::Cpu)).contains("truncated"));
    assert!(refusal(Adapter::load(&path("no such file"), &Device::Cpu)).contains("cannot be read"));
}

/// Mixed ranks, a scale to bake in, a top-level layer: what is read back computes the same.
#[test]
fn saving_and_loading_keeps_the_effect() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("pytorch_lora_weights.safetensors");
    let mut adapter = read(&[], None).unwrap();
    let quarter = LoraPair { scale: 0.25, ..adapter.modules[Q].pair().unwrap().clone() };
    adapter.modules.insert(Q.into(), quarter.into());
    adapter.metadata.insert("recipe".into(), "mucha".into());
    adapter.save(&target).unwrap();
    adapter.save(&target).expect("over an existing file");
    let again = Adapter::load(&target, &Device::Cpu).unwrap();
    assert_eq!(scales(&again), (1.0, 1.0));
    assert_eq!(again.metadata["recipe"], "mucha");
    assert_eq!(again.metadata["format"], "pt");
    for (module, delta) in &adapter.modules {
        let (LoraPair { a, b, scale }, again) = (delta.pair().unwrap(), again.modules[module].pair().unwrap());
        assert_eq!(values(a), values(&again.a));
        assert_eq!(values(&(b * *scale).unwrap()), values(&again.b));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

/// Only fields that `LoraConfig` knows, and a target that PEFT cannot match to more layers than are meant.
#[test]
fn the_header_is_what_peft_takes() {
    let bytes = read(&[], None).unwrap().to_bytes(Target::Diffusers).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let config: serde_json::Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["lora_adapter_metadata"]).unwrap();
    assert_eq!(config["transformer.r"], 2);
    assert_eq!(config["transformer.lora_alpha"], 2);
    assert_eq!(config["transformer.rank_pattern"], serde_json::json!({r"^transformer_blocks\.0\.attn\.to_q": 4}));
    assert_eq!(config["transformer.alpha_pattern"], config["transformer.rank_pattern"]);
    assert_eq!(config["transformer.target_modules"], r"^(?:proj_out|transformer_blocks\.0\.attn\.to_q)$");
    assert!(config.as_object().unwrap().keys().all(|key| key.starts_with("transformer.")));
}

#[test]
fn the_reference_file_survives_a_round_trip() {
    let adapter = Adapter::load(&path("lora_impressionist.safetensors"), &Device::Cpu).unwrap();
    let again = Adapter::from_bytes("again", &adapter.to_bytes(Target::Diffusers).unwrap(), &Device::Cpu).unwrap();
    assert_eq!(adapter.modules.len(), again.modules.len());
    for (module, delta) in &adapter.modules {
        assert_eq!(values(&delta.pair().unwrap().b), values(&again.modules[module].pair().unwrap().b));
    }
}
