//! flux-mini's transformer on the GPU against the reference tensors of diffusers and torch, and against the CPU's.

use crate::gpu::{Gpu, error, exact, worst};
use crate::report::Report;
use candle_core::{DType, Device, Error, Result, Tensor, Var};
use engine::checkpoint::Checkpoint;
use engine::latents::PackedLatents;
use engine::text_encoder::Conditioning;
use engine::transformer::{Checkpointing, Step, Transformer};
use engine::{AdapterSet, LoraPair, Precision, Size};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const POLICIES: [Checkpointing; 3] = [Checkpointing::None, Checkpointing::Smart, Checkpointing::Full];

pub fn check(gpu: &Gpu, report: &mut Report) {
    for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 1e-3)] {
        let model = load(&gpu.device, precision);
        for size in ["256x256", "192x288"] {
            report.check(&format!("velocity in {precision}, 1 - cosine"), size, tolerance, || {
                let file = File::read(&format!("transformer_{size}.safetensors"), &gpu.device)?;
                let call = Call::of(&file, "hidden_states", size.parse().map_err(Error::wrap)?)?;
                gpu.poison();
                one_less_cosine(&call.velocity(&model, &AdapterSet::base())?, &file.get("output")?)
            });
        }
    }
    // bf16 rounds at every step of nine blocks, twice; a single small gradient may be hit harder than all together.
    for (precision, of_all, of_worst) in [(Precision::F32, 1e-4, 1e-3), (Precision::Bf16, 3e-2, 0.15)] {
        let model = load(&gpu.device, precision);
        for checkpointing in POLICIES {
            let torch = || against_torch(gpu, &model, checkpointing);
            report.check(&format!("gradients of torch in {precision}, all"), checkpointing, of_all, || torch()?.all());
            report.check(&format!("gradients of torch in {precision}, the worst"), checkpointing, of_worst, || torch()?.worst());
        }
    }
    let host = load(&Device::Cpu, Precision::F32);
    for (precision, of_value, of_all, of_worst) in [(Precision::F32, 1e-4, 1e-4, 1e-3), (Precision::Bf16, 3e-2, 3e-2, 0.3)] {
        let model = load(&gpu.device, precision);
        for checkpointing in POLICIES {
            let compared = || on_every_layer(gpu, &model, &host, checkpointing, of_value);
            report.check(&format!("every layer trained in {precision}, all"), checkpointing, of_all, || compared()?.all());
            report.check(&format!("every layer trained in {precision}, the worst"), checkpointing, of_worst, || compared()?.worst());
        }
        report.check(&format!("the same bits twice in {precision}"), (), 0.0, || twice(gpu, &model));
    }
    // The CPU multiplies with the values that come back from the precision; on the GPU activations are bf16, and with fp8 weights fp8.
    for (precision, of_value, of_gradient) in [(Precision::Fp8, 3e-3, 0.15), (Precision::Nf4, 1e-3, 0.1)] {
        let (model, host) = (load(&gpu.device, precision), load(&Device::Cpu, precision));
        report.check(&format!("velocity in {precision}, 1 - cosine to the CPU's"), (), of_value, || against_host(gpu, &model, &host));
        for checkpointing in POLICIES {
            report.check(&format!("gradients in {precision}"), checkpointing, of_gradient, || {
                let (ours, expected) = (of_attention(gpu, &model, checkpointing)?, of_attention(gpu, &host, Checkpointing::None)?);
                Compared { ours, expected }.all()
            });
        }
        report.check(&format!("modulations made ahead in {precision}"), (), 1e-2, || modulations_ahead(gpu, &model));
    }
}

/// flux-mini keeps a GPU waiting for the host: what is seen is what queueing a step costs.
pub fn time(gpu: &Gpu, report: &mut Report) {
    for precision in [Precision::Bf16, Precision::Fp8, Precision::Nf4] {
        let model = load(&gpu.device, precision);
        report.time(&format!("a step of flux-mini in {precision}"), "256x256", || {
            let file = File::read("lora_step.safetensors", &gpu.device)?;
            let call = Call::of(&file, "x_t", Size::new(256, 256).map_err(Error::wrap)?)?;
            Ok((gpu.median(|_| call.velocity(&model, &AdapterSet::base()).map(drop))?, gpu.flop(8.6e9)))
        });
        for checkpointing in POLICIES {
            report.time(&format!("gradients of flux-mini in {precision}"), checkpointing, || {
                let trained = Trained::random(&gpu.device, &model, |path| path.contains(".attn."))?;
                let file = File::read("lora_step.safetensors", &gpu.device)?;
                let (call, target) = (Call::of(&file, "x_t", Size::new(256, 256).map_err(Error::wrap)?)?, file.get("target")?);
                let run = |_| trained.gradients(&model, &call, &target, checkpointing).map(drop);
                Ok((gpu.median(run)?, gpu.flop(3.0 * 8.6e9)))
            });
        }
    }
}

/// From the project's folder, or from wherever cargo runs it.
fn project(path: &str) -> PathBuf {
    let here = Path::new(path);
    if here.exists() { here.to_owned() } else { Path::new("../..").join(path) }
}

fn load(device: &Device, precision: Precision) -> Transformer {
    let checkpoint = Checkpoint::open(&project("models/flux-mini"), "transformer", device).expect("flux-mini");
    Transformer::from_checkpoint(&checkpoint, precision).expect("a transformer")
}

struct File(HashMap<String, Tensor>);

impl File {
    fn read(name: &str, device: &Device) -> Result<Self> {
        candle_core::safetensors::load(project("tests/fixtures/flux-mini").join(name), device).map(Self)
    }

    fn get(&self, key: &str) -> Result<Tensor> {
        self.0.get(key).cloned().ok_or_else(|| Error::msg(format!("a fixture without {key}")))
    }

    fn number(&self, key: &str) -> Result<f64> {
        self.get(key)?.flatten_all()?.get(0)?.to_dtype(DType::F64)?.to_scalar()
    }
}

struct Call {
    latents: PackedLatents,
    conditioning: Conditioning,
    size: Size,
    sigma: Vec<f64>,
    guidance: Vec<f64>,
}

impl Call {
    fn of(file: &File, latents: &str, size: Size) -> Result<Self> {
        Ok(Self {
            latents: PackedLatents(file.get(latents)?),
            conditioning: Conditioning { pooled: file.get("pooled_projections")?, tokens: file.get("encoder_hidden_states")? },
            size,
            sigma: vec![file.number("timestep")?],
            guidance: vec![file.number("guidance")?],
        })
    }

    fn step(&self) -> Step<'_> {
        Step { size: self.size, conditioning: &self.conditioning, sigma: &self.sigma, guidance: &self.guidance, modulations: None }
    }

    fn velocity(&self, model: &Transformer, adapters: &AdapterSet) -> Result<Tensor> {
        model.forward(&self.latents, &self.step(), adapters).map_err(Error::wrap)
    }

    /// Two different pictures under one text.
    fn doubled(self) -> Result<Self> {
        let latents = Tensor::cat(&[&self.latents.0, &(&self.latents.0 * 0.7)?], 0)?;
        let (sigma, guidance) = (vec![self.sigma[0], 0.3], vec![self.guidance[0], 3.5]);
        Ok(Self { latents: PackedLatents(latents), sigma, guidance, ..self })
    }
}

/// The call and the target of a training step on a device.
fn training_step(device: &Device) -> Result<(Call, File)> {
    let file = File::read("lora_step.safetensors", device)?;
    Ok((Call::of(&file, "x_t", Size::new(256, 256).map_err(Error::wrap)?)?, file))
}

/// Adapters with their variables as A, B, A, B, …
struct Trained {
    adapters: AdapterSet,
    variables: Vec<Var>,
    paths: Vec<String>,
}

impl Trained {
    fn new(model: &Transformer, mut fill: impl FnMut(&str, char, (usize, usize)) -> Result<Option<Tensor>>) -> Result<Self> {
        const RANK: usize = 4;
        let mut trained = Self { adapters: AdapterSet::base(), variables: Vec::new(), paths: Vec::new() };
        for layer in model.linears() {
            let (a, b) = (fill(&layer.path, 'A', (RANK, layer.in_features))?, fill(&layer.path, 'B', (layer.out_features, RANK))?);
            let (Some(a), Some(b)) = (a, b) else { continue };
            let (a, b) = (Var::from_tensor(&a)?, Var::from_tensor(&b)?);
            trained.adapters.push(layer.id, LoraPair { a: a.as_tensor().clone(), b: b.as_tensor().clone(), scale: 1.0 });
            trained.variables.extend([a, b]);
            trained.paths.push(layer.path.clone());
        }
        Ok(trained)
    }

    /// The same numbers on every device.
    fn random(device: &Device, model: &Transformer, pick: impl Fn(&str) -> bool) -> Result<Self> {
        let mut state = 1u64;
        let mut number = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * 0.05
        };
        Self::new(model, |path, _, shape| {
            let values: Vec<f32> = (0..shape.0 * shape.1).map(|_| number()).collect();
            pick(path).then(|| Tensor::from_vec(values, shape, device)).transpose()
        })
    }

    fn gradients(&self, model: &Transformer, call: &Call, target: &Tensor, checkpointing: Checkpointing) -> Result<Vec<Tensor>> {
        let loss = |prediction: &Tensor| -> engine::Result<Tensor> { Ok((prediction - target)?.sqr()?.mean_all()?) };
        let run = model.gradients(&call.latents, &call.step(), &self.adapters, &self.variables, checkpointing, &loss);
        run.map(|(_, gradients)| gradients).map_err(Error::wrap)
    }
}

/// Gradients and what they should be.
struct Compared {
    ours: Vec<Tensor>,
    expected: Vec<Tensor>,
}

impl Compared {
    /// The relative error of all of them together.
    fn all(&self) -> Result<f64> {
        let flat = |all: &[Tensor]| -> Result<Tensor> {
            Tensor::cat(&all.iter().map(|x| exact(x)?.flatten_all()).collect::<Result<Vec<_>>>()?, 0)
        };
        error(&flat(&self.ours)?, &flat(&self.expected)?)
    }

    fn worst(&self) -> Result<f64> {
        let pairs = self.ours.iter().zip(&self.expected);
        Ok(worst(pairs.map(|(ours, expected)| relative(ours, expected)).collect::<Result<Vec<_>>>()?))
    }
}

fn against_torch(gpu: &Gpu, model: &Transformer, checkpointing: Checkpointing) -> Result<Compared> {
    let (call, file) = training_step(&gpu.device)?;
    let trained = Trained::new(model, |path, half, _| Ok(file.0.get(&format!("init.{path}.lora_{half}.weight")).cloned()))?;
    gpu.poison();
    let ours = trained.gradients(model, &call, &file.get("target")?, checkpointing)?;
    let keys = trained.paths.iter().flat_map(|path| ['A', 'B'].map(|half| format!("grad.{path}.lora_{half}.weight")));
    let expected = keys.map(|key| file.get(&key)).collect::<Result<_>>()?;
    Ok(Compared { ours, expected })
}

/// In a batch of two, modulations and embedders included; beside the velocity, whose error is held to `of_value`.
fn on_every_layer(gpu: &Gpu, model: &Transformer, host: &Transformer, checkpointing: Checkpointing, of_value: f64) -> Result<Compared> {
    let run = |model: &Transformer, device: &Device, checkpointing: Checkpointing| -> Result<(Tensor, Vec<Tensor>)> {
        let (call, file) = training_step(device)?;
        let (call, target) = (call.doubled()?, Tensor::cat(&[file.get("target")?, file.get("noise")?], 0)?);
        let trained = Trained::random(device, model, |_| true)?;
        Ok((call.velocity(model, &trained.adapters)?, trained.gradients(model, &call, &target, checkpointing)?))
    };
    gpu.poison();
    let (velocity, ours) = run(model, &gpu.device, checkpointing)?;
    let (expected_velocity, expected) = run(host, &Device::Cpu, Checkpointing::None)?;
    let of_velocity = error(&velocity, &expected_velocity)?;
    if of_velocity.is_nan() || of_velocity > of_value {
        candle_core::bail!("the velocity's relative error is {of_velocity:.1e}, at most {of_value:.0e}");
    }
    Ok(Compared { ours, expected })
}

/// How many values differ between two runs.
fn twice(gpu: &Gpu, model: &Transformer) -> Result<f64> {
    let (first, second) = (of_attention(gpu, model, Checkpointing::None)?, of_attention(gpu, model, Checkpointing::None)?);
    let different = first.iter().zip(&second).map(|(a, b)| a.ne(b)?.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>());
    Ok(different.sum::<Result<f32>>()?.into())
}

/// Gradients of adapters on attention, on the model's own device.
fn of_attention(gpu: &Gpu, model: &Transformer, checkpointing: Checkpointing) -> Result<Vec<Tensor>> {
    let (call, file) = training_step(model.device())?;
    let trained = Trained::random(model.device(), model, |path| path.contains(".attn."))?;
    gpu.poison();
    trained.gradients(model, &call, &file.get("target")?, checkpointing)
}

fn against_host(gpu: &Gpu, model: &Transformer, host: &Transformer) -> Result<f64> {
    let velocity = |model: &Transformer| training_step(model.device())?.0.velocity(model, &AdapterSet::base());
    gpu.poison();
    one_less_cosine(&velocity(model)?, &velocity(host)?)
}

fn modulations_ahead(gpu: &Gpu, model: &Transformer) -> Result<f64> {
    let (call, _) = training_step(&gpu.device)?;
    let run = || -> engine::Result<(Tensor, Tensor)> {
        let pooled = call.conditioning.pooled.repeat((3, 1))?;
        let (sigma, guidance) = ([0.1, call.sigma[0], 0.9], [2.0, call.guidance[0], 4.0]);
        let all = model.modulations(&sigma, &guidance, &pooled, &AdapterSet::base())?.narrow(1, 1)?;
        let given = Step { modulations: Some(&all), ..call.step() };
        let base = AdapterSet::base();
        Ok((model.forward(&call.latents, &given, &base)?, model.forward(&call.latents, &call.step(), &base)?))
    };
    // A product of three rows may sum in another order than one of one row, which bf16 rounds otherwise now and then.
    let (ahead, now) = run().map_err(Error::wrap)?;
    error(&ahead, &now)
}

/// ‖x − expected‖ / ‖expected‖, and for an expectation of zero 0 if x is zero too.
fn relative(x: &Tensor, expected: &Tensor) -> Result<f64> {
    let nothing = |x: &Tensor| Ok::<_, Error>(exact(x)?.sqr()?.sum_all()?.to_scalar::<f64>()? == 0.0);
    if nothing(expected)? && nothing(x)? { Ok(0.0) } else { error(x, expected) }
}

fn one_less_cosine(x: &Tensor, expected: &Tensor) -> Result<f64> {
    let (x, expected) = (exact(x)?.flatten_all()?, exact(expected)?.flatten_all()?);
    let dot = |a: &Tensor, b: &Tensor| (a * b)?.sum_all()?.to_scalar::<f64>();
    Ok(1.0 - dot(&x, &expected)? / (dot(&x, &x)? * dot(&expected, &expected)?).sqrt())
}
