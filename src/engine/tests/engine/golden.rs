//! Every stage against what diffusers, transformers and peft compute.

use crate::fixtures::{Call, File, assert_cosine, assert_near, meta, path, pipeline, values};
use candle_core::{DType, Device, Tensor};
use engine::{Adapter, AdapterSet, GenerateParams, Size, latents::Latents, latents::PackedLatents, text_encoder::Conditioning};
use std::sync::Arc;

/// For one stage in f32.
const STAGE: f64 = 0.99999;
/// For a whole sampling.
const SAMPLING: f64 = 0.9999;

fn prompts() -> Vec<String> {
    meta()["prompts"].as_array().unwrap().iter().map(|p| p.as_str().unwrap().to_owned()).collect()
}

fn ids(tensor: &Tensor) -> Vec<Vec<u32>> {
    tensor.to_dtype(DType::U32).unwrap().to_vec2().unwrap()
}

#[test]
fn token_ids_are_exact() {
    let (file, prompts, encoder) = (File::read("text.safetensors"), prompts(), &pipeline().text_encoder);
    let prompts: Vec<&str> = prompts.iter().map(String::as_str).collect();
    assert_eq!(encoder.clip_ids(&prompts).unwrap(), ids(&file.get("clip_ids")));
    for length in [64, 128, 512] {
        assert_eq!(encoder.t5_ids(&prompts, length).unwrap(), ids(&file.get(&format!("t5_ids_{length}"))), "length {length}");
    }
}

#[test]
fn text_encoders() {
    let (file, prompts, encoder) = (File::read("text.safetensors"), prompts(), &pipeline().text_encoder);
    let prompts: Vec<&str> = prompts.iter().map(String::as_str).collect();
    let clip = encoder.clip_output(&prompts).unwrap();
    assert_cosine("clip last hidden", &clip.last_hidden, &file.get("clip_last_hidden"), STAGE);
    assert_cosine("clip pooled", &clip.pooled, &file.get("clip_pooled"), STAGE);
    for length in [64, 128] {
        let hidden = encoder.t5_hidden(&prompts, length).unwrap();
        assert_cosine(&format!("t5 {length}"), &hidden, &file.get(&format!("t5_hidden_{length}")), STAGE);
    }
}

#[test]
fn transformer() {
    for size in ["256x256", "192x288"] {
        let file = File::read(&format!("transformer_{size}.safetensors"));
        let call = Call::read(&file, "hidden_states", size.parse().unwrap());
        let velocity = pipeline().transformer.forward(&call.latents, &call.step(), &AdapterSet::base()).unwrap();
        assert_cosine(size, &velocity, &file.get("output"), STAGE);
    }
}

#[test]
fn schedule() {
    let (file, scheduler) = (File::read("schedule.safetensors"), &pipeline().scheduler);
    for (name, mu) in meta()["schedule_mu"].as_object().unwrap() {
        let size: Size = name.parse().unwrap();
        assert!((scheduler.mu(size) - mu.as_f64().unwrap()).abs() < 1e-12);
        for steps in [4, 20, 28] {
            let ours = scheduler.sigmas(steps, size);
            let reference = values(&file.get(&format!("sigmas_{steps}_{name}")));
            assert_eq!(ours.len(), reference.len());
            assert!(ours.iter().zip(&reference).all(|(a, b)| (a - b).abs() < 1e-6), "{ours:?} {reference:?}");
        }
    }
}

#[test]
fn sampling() {
    let (file, meta) = (File::read("sampling.safetensors"), &meta()["sampling"]);
    let size = Size::new(meta["width"].as_u64().unwrap() as usize, meta["height"].as_u64().unwrap() as usize).unwrap();
    let mut params = GenerateParams::new(meta["prompt"].as_str().unwrap(), size);
    params.steps = meta["steps"].as_u64().unwrap() as usize;
    params.guidance = meta["guidance"].as_f64().unwrap();
    params.max_sequence_length = meta["max_sequence_length"].as_u64().unwrap() as usize;
    let conditioning = pipeline().text_encoder.encode(&[&params.prompt], params.max_sequence_length).unwrap();
    assert_cosine("prompt embeds", &conditioning.tokens, &file.get("prompt_embeds"), STAGE);
    assert_cosine("pooled", &conditioning.pooled, &file.get("pooled"), STAGE);

    let mut generation = pipeline().start_from(params, conditioning, PackedLatents(file.get("latents_init"))).unwrap();
    while !generation.is_finished() {
        generation.step(pipeline()).unwrap();
        let step = generation.done();
        assert_cosine(&format!("step {step}"), &generation.latents().0, &file.get(&format!("latents_step_{step}")), SAMPLING);
    }
    let unpacked = generation.latents().unpack(size).unwrap();
    assert_cosine("unpacked", &unpacked.0, &file.get("latents_final_unpacked"), SAMPLING);
    let picture = image::open(path("sampling.png")).unwrap().to_rgb8();
    let ours = generation.finish(pipeline()).unwrap().remove(0);
    let worst = picture.iter().zip(ours.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert_eq!(picture.dimensions(), ours.dimensions());
    assert!(worst <= 4, "a pixel differs by {worst} of 255");
}

#[test]
fn vae() {
    let (file, vae) = (File::read("vae.safetensors"), &pipeline().vae);
    let posterior = vae.encode(&file.get("image")).unwrap();
    assert_cosine("mean", &posterior.mean, &file.get("mean"), STAGE);
    assert_cosine("logvar", &posterior.logvar, &file.get("logvar"), STAGE);
    let latents = vae.normalise(&file.get("mean")).unwrap();
    assert_near("normalised", &latents.0, &file.get("latents_normalised"), 1e-6);
    assert_near("packed", &latents.pack().unwrap().0, &file.get("latents_packed"), 1e-6);
    assert_cosine("decoded", &vae.decode_raw(&file.get("mean")).unwrap(), &file.get("decoded"), STAGE);
}

/// The cheap look shows the picture: each colour channel correlates with the picture made small.
#[test]
fn preview_resembles_the_picture() {
    let file = File::read("vae.safetensors");
    let preview = pipeline().vae.preview(&Latents(file.get("latents_normalised"))).unwrap().remove(0);
    let small = file.get("image").avg_pool2d(8).unwrap().squeeze(0).unwrap();
    assert_eq!(preview.dimensions(), (32, 32));
    for channel in 0..3 {
        let ours: Vec<f64> = preview.pixels().map(|p| f64::from(p.0[channel])).collect();
        let theirs = values(&small.get(channel).unwrap());
        let correlation = correlation(&ours, &theirs);
        println!("preview channel {channel}: correlation {correlation:.3}");
        assert!(correlation > 0.9, "channel {channel}: {correlation}");
    }
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let sum = |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(x, y)| f(x - ma, y - mb)).sum::<f64>();
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}

#[test]
fn adapter_output() {
    let file = File::read("lora_output.safetensors");
    let call = Call::read(&file, "hidden_states", Size::new(256, 256).unwrap());
    let adapter = Arc::new(Adapter::load(&path(meta()["lora"]["file"].as_str().unwrap()), &Device::Cpu).unwrap());
    let velocity = |scale: f64| {
        let (set, coverage) = AdapterSet::mount(&pipeline().transformer, &[(adapter.clone(), scale)]).unwrap();
        assert!(coverage[0].unmatched.is_empty());
        pipeline().transformer.forward(&call.latents, &call.step(), &set).unwrap()
    };
    let base = file.get("output_base");
    assert_cosine("base", &velocity(0.0), &base, STAGE);
    for (scale, reference) in file.under("output_scale_") {
        let ours = velocity(scale.parse().unwrap());
        assert_cosine(&format!("scale {scale}"), &ours, reference, STAGE);
        // The change that the adapter makes, not only the sum that the base dominates.
        assert_cosine(&format!("change at {scale}"), &(ours - &base).unwrap(), &(reference - &base).unwrap(), 0.9999);
    }
}

/// A second implementation that shares nothing with ours but the weights.
#[test]
fn t5_agrees_with_candle_transformers() {
    use candle_transformers::models::t5::{Config, T5EncoderModel};
    let folder = std::path::Path::new(crate::fixtures::MODEL).join("text_encoder_2");
    let config: Config = serde_json::from_str(&std::fs::read_to_string(folder.join("config.json")).unwrap()).unwrap();
    let weights = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap();
    let mut theirs = T5EncoderModel::load(candle_nn::VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu), &config).unwrap();
    let encoder = &pipeline().text_encoder;
    let ids = encoder.t5_ids(&["four barges at dawn, the river grey and gold"], 200).unwrap();
    let reference = theirs.forward(&Tensor::new(ids.clone(), &Device::Cpu).unwrap()).unwrap();
    assert_cosine("t5 of candle", &encoder.t5.get().unwrap().forward(&ids).unwrap(), &reference, STAGE);
}

/// One row of text serves a batch of pictures exactly as its copies do.
#[test]
fn conditioning_is_repeated() {
    let one = Conditioning {
        pooled: Tensor::ones((1, 2), DType::F32, &Device::Cpu).unwrap(),
        tokens: Tensor::ones((1, 3, 2), DType::F32, &Device::Cpu).unwrap(),
    };
    let three = one.repeat(3).unwrap();
    assert_eq!((three.pooled.dims(), three.tokens.dims()), (&[3, 2][..], &[3, 3, 2][..]));
}
