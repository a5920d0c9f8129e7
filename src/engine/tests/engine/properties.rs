//! What must hold for every input.

use crate::fixtures::{Call, File, assert_near, path, pipeline, refusal, values};
use candle_core::{Device, Tensor};
use engine::{
    Adapter, AdapterSet, GenerateParams, Model, Pipeline, Size,
    latents::{Latents, PackedLatents},
    residence::Part,
    scheduler::Scheduler,
    synthetic::Synthetic,
    transformer::Step,
    vae::Tiling,
};
use proptest::prelude::*;
use std::{ops::ControlFlow, sync::Arc};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn unpack_undoes_pack(batch in 1usize..3, rows in 1usize..9, columns in 1usize..9) {
        let size = Size::new(16 * columns, 16 * rows).unwrap();
        let elements = batch * 16 * 4 * rows * columns;
        let latents = Tensor::arange(0f32, elements as f32, &Device::Cpu).unwrap().reshape((batch, 16, 2 * rows, 2 * columns)).unwrap();
        let packed = Latents(latents.clone()).pack().unwrap();
        prop_assert_eq!(packed.0.dims(), &[batch, rows * columns, 64]);
        prop_assert_eq!(values(&packed.unpack(size).unwrap().0), values(&latents));
    }

    #[test]
    fn sigmas_fall_from_one_to_zero(steps in 1usize..=200, rows in 1usize..=64, columns in 1usize..=64) {
        let sigmas = pipeline().scheduler.sigmas(steps, Size::new(16 * columns, 16 * rows).unwrap());
        prop_assert_eq!(sigmas.len(), steps + 1);
        prop_assert!((sigmas[0] - 1.0).abs() < 1e-12 && sigmas[steps] == 0.0);
        prop_assert!(sigmas.windows(2).all(|pair| pair[0] > pair[1]));
    }

    #[test]
    fn token_ids_have_the_length_asked_for(prompt in ".{0,300}", length in 1usize..=512) {
        let encoder = &pipeline().text_encoder;
        let t5 = encoder.t5_ids(&[&prompt], length).unwrap().remove(0);
        prop_assert_eq!(t5.len(), length);
        prop_assert!(t5.contains(&1), "the end token survives truncation");
        let clip = encoder.clip_ids(&[&prompt]).unwrap().remove(0);
        prop_assert_eq!((clip.len(), clip[0], clip[76]), (77, 4071, 4072));
    }
}

/// Without dynamic shifting (FLUX.1-schnell) the picture's size does not matter, and a shift of 1 leaves even steps.
#[test]
fn static_shift() {
    let size = Size::new(1024, 1024).unwrap();
    assert_eq!(Scheduler::default().sigmas(4, size), [1.0, 0.75, 0.5, 0.25, 0.0]);
    let shifted = serde_json::from_str::<Scheduler>(r#"{"shift": 3.0}"#).unwrap().sigmas(4, size);
    let expected = [1.0, 0.9, 0.75, 0.5, 0.0];
    assert!(shifted.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{shifted:?}");
}

/// The packed order, on the smallest picture: channel, then dy, then dx.
#[test]
fn pack_order() {
    let latents = Tensor::arange(0f32, 64.0, &Device::Cpu).unwrap().reshape((1, 16, 2, 2)).unwrap();
    let packed = Latents(latents).pack().unwrap();
    assert_eq!(values(&packed.0), (0..64).map(f64::from).collect::<Vec<_>>());
}

#[test]
fn noise_follows_the_seed_alone() {
    let size = Size::new(64, 96).unwrap();
    let noise = |seed, count| values(&PackedLatents::noise(seed, count, size, &Device::Cpu).unwrap().0);
    let (both, second) = (noise(u64::MAX, 2), noise(0, 1));
    assert_eq!(both[both.len() / 2..], second, "row i is drawn from seed + i, also past the largest seed");
    assert_ne!(both[..both.len() / 2], second);
    let many = noise(5, 16);
    let mean = many.iter().sum::<f64>() / many.len() as f64;
    let variance = many.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / many.len() as f64;
    assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "mean {mean}, variance {variance}");
}

#[test]
fn scale_zero_is_the_base_to_the_last_bit() {
    let file = File::read("lora_output.safetensors");
    let call = Call::read(&file, "hidden_states", Size::new(256, 256).unwrap());
    let adapter = Arc::new(Adapter::load(&path("lora_impressionist.safetensors"), &Device::Cpu).unwrap());
    let (zero, coverage) = AdapterSet::mount(&pipeline().transformer, &[(adapter, 0.0)]).unwrap();
    assert!(!coverage[0].matched.is_empty());
    let forward = |set: &AdapterSet| values(&pipeline().transformer.forward(&call.latents, &call.step(), set).unwrap());
    assert_eq!(forward(&zero), forward(&AdapterSet::base()));
}

/// Made ahead for many calls, the modulations of one are those that it would make itself.
#[test]
fn modulations_can_be_made_ahead() {
    let file = File::read("lora_output.safetensors");
    let call = Call::read(&file, "hidden_states", Size::new(256, 256).unwrap());
    let adapter = Arc::new(Adapter::load(&path("lora_impressionist.safetensors"), &Device::Cpu).unwrap());
    let (adapters, _) = AdapterSet::mount(&pipeline().transformer, &[(adapter, 1.0)]).unwrap();
    let transformer = &pipeline().transformer;
    let pooled = call.conditioning.pooled.repeat((3, 1)).unwrap();
    let all = transformer.modulations(&[0.2, call.sigma[0], 1.0], &[1.0, call.guidance[0], 5.0], &pooled, &adapters).unwrap();
    let given = all.narrow(1, 1).unwrap();
    let ahead = transformer.forward(&call.latents, &Step { modulations: Some(&given), ..call.step() }, &adapters).unwrap();
    assert_near("ahead", &ahead, &transformer.forward(&call.latents, &call.step(), &adapters).unwrap(), 1e-6);
    let all = refusal(transformer.forward(&call.latents, &Step { modulations: Some(&all), ..call.step() }, &adapters));
    assert!(all.contains("narrow them"), "{all}");
}

/// Two adapters at once are the sum of what each says: twice at a half is once at one.
#[test]
fn adapters_add_up() {
    let file = File::read("lora_output.safetensors");
    let call = Call::read(&file, "hidden_states", Size::new(256, 256).unwrap());
    let adapter = Arc::new(Adapter::load(&path("lora_impressionist.safetensors"), &Device::Cpu).unwrap());
    let forward = |adapters: &[(Arc<Adapter>, f64)]| {
        let (set, _) = AdapterSet::mount(&pipeline().transformer, adapters).unwrap();
        pipeline().transformer.forward(&call.latents, &call.step(), &set).unwrap()
    };
    let halves = forward(&[(adapter.clone(), 0.5), (adapter.clone(), 0.5)]);
    assert_near("halves", &halves, &forward(&[(adapter.clone(), 1.0)]), 1e-4);
    assert_near("opposites", &forward(&[(adapter.clone(), 1.0), (adapter, -1.0)]), &forward(&[]), 1e-4);
}

fn small(seed: u64, count: usize) -> GenerateParams {
    let size = Size::new(48, 64).unwrap();
    GenerateParams { seed, count, steps: 2, max_sequence_length: 16, ..GenerateParams::new("a red boat", size) }
}

#[test]
fn a_batch_of_two_is_two_singles() {
    let finished = |params: GenerateParams| {
        let mut generation = pipeline().start(params).unwrap();
        while !generation.is_finished() {
            generation.step(pipeline()).unwrap();
        }
        generation.latents().0.clone()
    };
    let singles = Tensor::cat(&[finished(small(3, 1)), finished(small(4, 1))], 0).unwrap();
    assert_near("batch", &finished(small(3, 2)), &singles, 1e-4);
}

#[test]
fn pictures_have_the_size_asked_for_and_previews_an_eighth() {
    let mut previews = Vec::new();
    let pictures = pipeline()
        .generate(small(1, 2), &mut |generation| {
            previews.push((generation.done(), generation.preview(pipeline()).unwrap()));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(pictures.iter().map(|p| p.dimensions()).collect::<Vec<_>>(), [(48, 64); 2]);
    assert_eq!(previews.iter().map(|(done, _)| *done).collect::<Vec<_>>(), [1, 2]);
    assert!(previews.iter().flat_map(|(_, previews)| previews).all(|p| p.dimensions() == (6, 8)));
}

#[test]
fn breaking_cancels() {
    let cancelled = pipeline().generate(small(1, 1), &mut |_| ControlFlow::Break(()));
    assert!(matches!(cancelled, Err(engine::Error::Cancelled)));
}

#[test]
fn every_linear_layer_is_listed_once_in_order() {
    let linears = pipeline().transformer.linears();
    assert!(linears.iter().enumerate().all(|(i, linear)| linear.id == i));
    let mut paths: Vec<_> = linears.iter().map(|linear| linear.path.as_str()).collect();
    paths.sort_unstable();
    paths.dedup();
    // Embedders 8, double blocks 3 · 14, single blocks 6 · 6, output 2.
    assert_eq!((paths.len(), linears.len()), (88, 88));
}

#[test]
fn fingerprints_are_hashes_of_the_files() {
    let (text, vae) = (pipeline().text_encoder.fingerprint().unwrap(), pipeline().vae.fingerprint().unwrap());
    assert!(text.len() == 64 && vae.len() == 64 && text != vae);
    assert_eq!(text, pipeline().text_encoder.fingerprint().unwrap());
}

/// Made-up weights go the whole way from prompt to picture, and are the same ones every time.
#[test]
fn a_synthetic_model_paints() {
    let painted = || {
        let pipeline = Pipeline::load(Model::Synthetic(Synthetic::FluxMini), &Device::Cpu).unwrap();
        assert_eq!(pipeline.name, "synthetic flux-mini");
        pipeline.generate(small(1, 1), &mut |_| ControlFlow::Continue(())).unwrap().remove(0)
    };
    let picture = painted();
    assert_eq!(picture.dimensions(), (48, 64));
    assert_eq!(picture, painted());
}

/// A part that was evicted comes back by itself, with the same numbers.
#[test]
fn evicted_parts_come_back() {
    let pipeline = Pipeline::load(crate::fixtures::MODEL, &Device::Cpu).unwrap();
    let painted = || pipeline.generate(small(5, 1), &mut |_| ControlFlow::Continue(())).unwrap().remove(0);
    let before = painted();
    assert!(pipeline.text_encoder.is_resident() && pipeline.vae.is_resident());
    pipeline.evict(Part::TextEncoder);
    pipeline.evict(Part::Vae);
    assert!(!pipeline.text_encoder.is_resident() && !pipeline.vae.is_resident());
    assert_eq!(painted(), before);
    assert!(pipeline.text_encoder.is_resident() && pipeline.vae.is_resident());
}

/// A picture decoded in tiles of a quarter of its area: the same picture but for what a tile cannot know of its surroundings, and no
/// edge where tiles meet.
#[test]
fn tiles_have_no_seams() {
    let file = File::read("vae.safetensors");
    let z = file.get("mean");
    let (_, _, h, w) = z.dims4().unwrap();
    let vae = &pipeline().vae;
    let (whole, tiled) = (vae.decode_raw(&z).unwrap(), vae.decode_tiled(&z, Tiling::new(16)).unwrap());
    assert_eq!(whole.dims(), &[1, 3, 8 * h, 8 * w]);
    assert_eq!(whole.dims(), tiled.dims());
    let difference = (&tiled - &whole).unwrap();
    let mean = |x: &Tensor| f64::from(x.abs().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap());
    // Steps of the difference from one column to the next: at a seam they would stand out.
    let step = |column: usize| {
        let at = |column| difference.narrow(3, column, 1).unwrap();
        mean(&(at(column + 1) - at(column)).unwrap())
    };
    let steps: Vec<f64> = (0..8 * w - 1).map(step).collect();
    let usual = steps.iter().sum::<f64>() / steps.len() as f64;
    // Tiles begin every 12 latents, and fade for 4.
    let seams = (1..).map(|i| 96 * i).take_while(|start| start + 32 < 8 * w).flat_map(|start| [start - 1, start + 31]);
    let worst = seams.map(|column| steps[column]).fold(0.0, f64::max);
    println!("mean difference {:.4}, mean step {usual:.5}, worst at a seam {worst:.5}", mean(&difference));
    assert!(mean(&difference) < 0.06, "tiles differ from the whole by {} of 2", mean(&difference));
    assert!(worst < 2.0 * usual, "a seam of {worst}, where {usual} is usual");
}
