//! Pictures and training on a GPU, beside the CPU's. For a machine with an NVIDIA GPU:
//! `cargo test --release --features cuda -p atelier-train --test gpu -- --test-threads 1`, or the binary from the project's folder.

use engine::device::{self, Choice, Mark, Readback};
use engine::memory::Workload;
use engine::residence::Part;
use engine::vae::Tiling;
use engine::{DType, Device, Error, GenerateParams, Pipeline, Precision, Size, Tensor};
use image::{Rgb, RgbImage};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use train::dataset::Limits;
use train::optimizer::{self, Clipped};
use train::recipe::{OptimizerKind, Policy};
use train::{Dataset, Event, Recipe, Trainer};

static GPU: LazyLock<Device> = LazyLock::new(|| Choice::Cuda(0).open().unwrap());

/// From the project's folder, or from wherever cargo runs it.
fn model() -> PathBuf {
    let here = Path::new("models/flux-mini");
    if here.is_dir() { here.to_owned() } else { Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/flux-mini")).to_owned() }
}

fn pipeline(device: &Device, precision: Option<Precision>) -> Pipeline {
    Pipeline::load_in(&model(), device, precision).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_device(&Device::Cpu).unwrap().to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn relative(ours: &[f32], reference: &[f32]) -> f64 {
    let squares = |pairs: &mut dyn Iterator<Item = f32>| pairs.map(|x| f64::from(x).powi(2)).sum::<f64>();
    (squares(&mut ours.iter().zip(reference).map(|(a, b)| a - b)) / squares(&mut reference.iter().copied())).sqrt()
}

fn params() -> GenerateParams {
    GenerateParams { seed: 3, steps: 8, ..GenerateParams::new("a lake with mountains at sunset", Size::new(256, 256).unwrap()) }
}

fn latents(pipeline: &Pipeline) -> Vec<f32> {
    let mut generation = pipeline.start(params()).unwrap();
    while !generation.is_finished() {
        generation.step(pipeline).unwrap();
    }
    values(&generation.latents().0)
}

#[test]
fn pictures_are_the_cpus_but_for_rounding() {
    let reference = latents(&pipeline(&Device::Cpu, None));
    for (precision, most) in [(Precision::F32, 1e-2), (Precision::Bf16, 0.1), (Precision::Fp8, 0.25), (Precision::Nf4, 0.6)] {
        if precision == Precision::Fp8 && !device::gpu_of(&GPU).unwrap().unwrap().has_fp8() {
            continue;
        }
        let error = relative(&latents(&pipeline(&GPU, Some(precision))), &reference);
        println!("{precision}: relative error {error:.4} after 8 steps");
        assert!(error < most, "{precision}: {error}");
    }
}

#[test]
fn numbers_travel_both_ways_and_time_passes() {
    let ours: Vec<f32> = (0..100_000).map(|i| i as f32 * 0.5).collect();
    let begun = Mark::now(&GPU).unwrap();
    let sent = device::send(&Tensor::from_slice(&ours, (100, 1000), &Device::Cpu).unwrap(), &GPU).unwrap();
    let back = Readback::of(&sent.t().unwrap()).unwrap();
    let ended = Mark::now(&GPU).unwrap();
    let expected = Tensor::from_slice(&ours, (100, 1000), &Device::Cpu).unwrap().t().unwrap();
    assert_eq!(back.wait().unwrap(), values(&expected.contiguous().unwrap()));
    assert!(ended.seconds_since(&begun).unwrap() > 0.0);
    let squares = device::sum_of_squares(&sent).unwrap();
    let expected: f64 = ours.iter().map(|&x| f64::from(x).powi(2)).sum();
    assert!((f64::from(values(&squares)[0]) / expected - 1.0).abs() < 1e-4);
}

#[test]
fn memory_that_ran_out_is_told_and_the_device_goes_on() {
    let total = device::memory(&GPU).unwrap().total as usize;
    let error = Tensor::zeros(total, DType::F32, &GPU).map_err(Error::from).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory), "{error}");
    device::trim(&GPU).unwrap();
    let one = Tensor::ones(1000, DType::F32, &GPU).unwrap();
    assert_eq!(values(&one.sum_all().unwrap()), [1000.0]);
    assert!(device::memory(&GPU).unwrap().free > 0);
}

#[test]
fn parts_leave_and_come_back() {
    let pipeline = pipeline(&GPU, None);
    let painted = || pipeline.generate(params(), &mut |_| ControlFlow::Continue(())).unwrap().remove(0);
    let before = painted();
    GPU.synchronize().unwrap();
    let free = || device::memory(&GPU).unwrap().free;
    let resident = free();
    pipeline.evict(Part::TextEncoder);
    pipeline.evict(Part::Vae);
    GPU.synchronize().unwrap();
    assert!(free() > resident, "{} {resident}", free());
    assert_eq!(painted(), before);
    // A budget that nothing can meet.
    let huge = Workload::generate(Size::new(4096, 4096).unwrap(), 512, 4096);
    assert!(pipeline.check_memory(&huge).unwrap_err().to_string().contains("GB"));
    pipeline.make_room(Part::Transformer, &huge).unwrap();
    assert!(!pipeline.text_encoder.is_resident() && !pipeline.vae.is_resident());
}

#[test]
fn tiles_are_the_picture() {
    let pipeline = pipeline(&GPU, None);
    let z = Tensor::randn(0f32, 1.0, (1, 16, 32, 24), &GPU).unwrap();
    let (whole, tiled) = (pipeline.vae.decode_raw(&z).unwrap(), pipeline.vae.decode_tiled(&z, Tiling::new(16)).unwrap());
    let error = relative(&values(&tiled), &values(&whole));
    assert!(error < 0.3, "{error}");
}

/// The kernel and its twin on the host: the same weights, and the same moments, to be exchanged between the two.
#[test]
fn adamw8bit_is_the_hosts() {
    let lengths = [5000, 300, 4096];
    let total = lengths.iter().sum();
    let recipe = Recipe { optimizer: OptimizerKind::AdamW8bit, ..Recipe::default() };
    let noise =
        |seed: u32| (0..total).map(|i| ((i as u32 ^ seed).wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32) - 0.5).collect::<Vec<_>>();
    let mut host_weights = noise(1);
    let weights = Tensor::from_slice(&host_weights, total, &GPU).unwrap();
    let (mut host, mut gpu) = (optimizer::new(&recipe, &lengths), optimizer::on_device(&recipe, &lengths, &GPU).unwrap());
    for step in 1..=20 {
        let mut gradients = noise(step as u32 + 7);
        let on_gpu = Tensor::from_slice(&gradients, total, &GPU).unwrap();
        let squares = device::sum_of_squares(&on_gpu).unwrap();
        gpu.step(step, 1e-2, &weights, Clipped { gradients: &on_gpu, squares: &squares, most: 1.0 }).unwrap();
        optimizer::clip(&mut gradients, 1.0);
        host.step(step, 1e-2, &mut host_weights, &gradients);
    }
    let error = relative(&values(&weights), &host_weights);
    println!("weights after 20 steps: relative error {error:.2e}");
    assert!(error < 1e-3, "{error}");
}

fn dataset(home: &Path) -> Dataset {
    let folder = home.join("set");
    fs::create_dir_all(&folder).unwrap();
    for (index, colour) in [[220, 30, 30], [20, 180, 60], [30, 40, 210]].into_iter().enumerate() {
        let stripes = |x: u32, y: u32| if (x / 8 + y / 16) as usize % (index + 2) == 0 { Rgb([255 - colour[0]; 3]) } else { Rgb(colour) };
        RgbImage::from_fn(96, 80, stripes).save(folder.join(format!("{index}.png"))).unwrap();
        fs::write(folder.join(format!("{index}.txt")), format!("flag number {index} in the wind")).unwrap();
    }
    Dataset::open(&folder, Some("ink"), Limits::default(), home).unwrap()
}

fn recipe(optimizer: OptimizerKind, policy: Policy) -> Recipe {
    Recipe {
        rank: 4,
        alpha: 4.0,
        steps: 12,
        accumulate: 2,
        learning_rate: 1e-3,
        resolution: Size::new(64, 64).unwrap(),
        buckets: false,
        max_sequence_length: 16,
        checkpoint_every: 5,
        optimizer,
        gradient_checkpointing: policy,
        ..Recipe::default()
    }
}

/// The steps that were told, and the adapter's bytes.
fn finish(pipeline: &Pipeline, mut trainer: Trainer, run: &Path) -> (Vec<(usize, f64)>, Vec<u8>) {
    let mut told = Vec::new();
    while !trainer.is_finished() {
        if let Event::Step { step, loss, gradient_norm, seconds, .. } = trainer.advance(pipeline).unwrap() {
            assert!(loss.is_finite() && gradient_norm > 0.0 && seconds > 0.0);
            told.push((step, loss));
        }
    }
    assert_eq!(trainer.losses(), told.iter().map(|(_, loss)| *loss).collect::<Vec<_>>());
    (told, fs::read(run.join("pytorch_lora_weights.safetensors")).unwrap())
}

#[test]
fn a_run_tells_every_step_and_resumes_bit_for_bit() {
    let pipeline = pipeline(&GPU, Some(Precision::Bf16));
    for optimizer in [OptimizerKind::AdamW, OptimizerKind::AdamW8bit] {
        let home = tempfile::tempdir().unwrap();
        let (straight, stopped) = (home.path().join("a/run"), home.path().join("b/run"));
        let start = |run: &Path| Trainer::start(&pipeline, recipe(optimizer, Policy::None), dataset(home.path()), run).unwrap();
        let (told, adapter) = finish(&pipeline, start(&straight), &straight);
        assert_eq!(told.iter().map(|(step, _)| *step).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
        let mut trainer = start(&stopped);
        while trainer.step() < 8 {
            trainer.advance(&pipeline).unwrap();
        }
        trainer.checkpoint().unwrap();
        assert_eq!(trainer.losses().len(), 8, "numbers on their way are waited for");
        drop(trainer);
        let trainer = Trainer::resume(&pipeline, dataset(home.path()), &stopped).unwrap();
        let (_, resumed) = finish(&pipeline, trainer, &stopped);
        assert_eq!(resumed, adapter, "{optimizer:?}");
    }
}

#[test]
fn losses_are_the_cpus_under_every_policy_and_precision() {
    let losses = |pipeline: &Pipeline, policy| {
        let home = tempfile::tempdir().unwrap();
        let run = home.path().join("run");
        let trainer = Trainer::start(pipeline, recipe(OptimizerKind::AdamW8bit, policy), dataset(home.path()), &run).unwrap();
        finish(pipeline, trainer, &run).0.into_iter().map(|(_, loss)| loss as f32).collect::<Vec<_>>()
    };
    let reference = losses(&pipeline(&Device::Cpu, None), Policy::None);
    for (precision, most) in [(Precision::F32, 0.01), (Precision::Bf16, 0.05), (Precision::Fp8, 0.15), (Precision::Nf4, 0.4)] {
        if precision == Precision::Fp8 && !device::gpu_of(&GPU).unwrap().unwrap().has_fp8() {
            continue;
        }
        let on_gpu = pipeline(&GPU, Some(precision));
        for policy in [Policy::None, Policy::Smart, Policy::Full] {
            let error = relative(&losses(&on_gpu, policy), &reference);
            println!("{precision}, {policy:?}: losses differ by {error:.4}");
            assert!(error < most, "{precision}, {policy:?}: {error}");
        }
    }
}
