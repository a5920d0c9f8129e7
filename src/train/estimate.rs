//! How long a run will take and how much memory it will need, told before it begins.
//!
//! Time is the operations of (model, recipe), counted by the engine, divided by the rate at which this device multiplies, which is measured
//! once. Memory is the engine's prediction.

use crate::recipe::{OptimizerKind, targets};
use crate::{Recipe, Result};
use engine::flops::Flops;
use engine::memory::{self, Peak, Placement, Sizes, Task, Training, Workload};
use engine::ops::{self, Activation};
use engine::transformer::{Checkpointing, LinearInfo};
use engine::{Device, Precision, Tensor};
use std::sync::OnceLock;
use std::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    pub seconds: f64,
    pub peak_mib: f64,
    /// What the recipe's policy comes to.
    pub checkpointing: Checkpointing,
}

/// Where a run will be.
pub struct Place<'a> {
    pub device: &'a Device,
    pub placement: Placement,
    /// Bytes that the model and the run may take together.
    pub budget: u64,
}

/// What lies between a CPU's products (norms, softmax, memory traffic) takes as long as they would at this rate on each core, whatever
/// multiplies: flux-mini trains at 180 GFLOP/s where two cores' products reach 900 (AMX), and at 110 where they reach 160 (AVX-512).
const CPU_REST_A_CORE: f64 = 1.5e11;
/// Share of a GPU's product rate that a training step reaches: 57 % on an H100.
const GPU_EFFICIENCY: f64 = 0.55;
/// Operations a picture's pixel costs in the VAE, for a transformer of full width; a smaller model's is smaller in proportion to its width.
const VAE_OPERATIONS_A_PIXEL: f64 = 1.1e6;
const FULL_WIDTH: f64 = 3072.0;

/// Predicts a run of `recipe` on `items` pictures. A recipe whose targets this model does not have is refused.
pub fn predict(sizes: &Sizes, place: &Place, recipe: &Recipe, items: usize) -> Result<Prediction> {
    let workload = workload(recipe, &memory::layers(&sizes.transformer))?;
    let checkpointing = recipe.gradient_checkpointing.resolve(sizes, place.placement, &workload, place.budget);
    let peak = Peak::of(sizes, place.placement, &workload.with(checkpointing));
    // Parts leave when memory is short.
    let peak = if peak.whole() <= place.budget { peak.whole() } else { peak.least() };
    let operations = Work::of(sizes, recipe).run(sizes, recipe, checkpointing, items);
    let seconds = operations / training_rate(place.device);
    Ok(Prediction { seconds, peak_mib: peak as f64 / f64::from(1 << 20), checkpointing })
}

/// Operations a second of a training step as a whole.
fn training_rate(device: &Device) -> f64 {
    let products = operations_per_second(device);
    if !device.is_cpu() {
        return GPU_EFFICIENCY * products;
    }
    let rest = CPU_REST_A_CORE * std::thread::available_parallelism().map_or(1, usize::from) as f64;
    1.0 / (1.0 / products + 1.0 / rest)
}

/// What of a recipe decides its memory, before its policy is known.
pub fn workload(recipe: &Recipe, layers: &[LinearInfo]) -> Result<Workload> {
    let moment_bytes = match recipe.optimizer {
        OptimizerKind::AdamW => 8,
        OptimizerKind::AdamW8bit => 2,
    };
    let training = Training::new(&targets::select(&recipe.targets, layers)?, recipe.rank, Checkpointing::None, moment_bytes);
    Ok(Workload { size: recipe.resolution, text_tokens: recipe.max_sequence_length, batch: recipe.batch_size, task: Task::Train(training) })
}

/// Operations of one example (one row of a batch).
struct Work {
    forward: Flops,
    vae: f64,
}

impl Work {
    fn of(sizes: &Sizes, recipe: &Recipe) -> Self {
        let pixels = (recipe.resolution.width() * recipe.resolution.height()) as f64;
        let width = sizes.transformer.inner_dim() as f64;
        Self {
            forward: Flops::forward(&sizes.transformer, recipe.resolution.tokens(), recipe.max_sequence_length),
            vae: pixels * VAE_OPERATIONS_A_PIXEL * (width / FULL_WIDTH).min(1.0),
        }
    }

    fn run(&self, sizes: &Sizes, recipe: &Recipe, checkpointing: Checkpointing, items: usize) -> f64 {
        let examples = (recipe.steps * recipe.accumulate * recipe.batch_size) as f64;
        let training = examples * self.forward.micro_step(&sizes.transformer, checkpointing).total();
        training + self.samples(recipe) + self.preparation(recipe, items)
    }

    fn samples(&self, recipe: &Recipe) -> f64 {
        let checkpoints = if recipe.checkpoint_every == 0 { 1 } else { recipe.steps.div_ceil(recipe.checkpoint_every) };
        let picture = recipe.sample_steps as f64 * self.forward.total() + self.vae;
        picture * (checkpoints * recipe.sample_prompts.len()) as f64
    }

    fn preparation(&self, recipe: &Recipe, items: usize) -> f64 {
        let frames = if recipe.flip { 2.0 } else { 1.0 };
        items as f64 * frames * self.vae
    }
}

/// How fast the device multiplies by a frozen weight, measured once with the engine's own product. A process works on one device.
pub fn operations_per_second(device: &Device) -> f64 {
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(|| measure(device).unwrap_or(FALLBACK))
}

/// Two cores of a small virtual machine.
const FALLBACK: f64 = 1e11;

fn measure(device: &Device) -> engine::Result<f64> {
    let (tokens, width, precision) = if device.is_cpu() { (384, 1024, Precision::F32) } else { (4096, 4096, Precision::Bf16) };
    let weight = ops::Weight::new(&Tensor::ones((width, width), precision.dtype(), device)?, precision)?;
    let x = Activation::from(Tensor::ones((1, tokens, width), precision.dtype(), device)?);
    let mut best = f64::INFINITY;
    // The best of a few: the first warms up, others may be interrupted.
    for _ in 0..6 {
        let started = Instant::now();
        ops::linear(&x, &weight, None)?;
        device.synchronize()?;
        best = best.min(started.elapsed().as_secs_f64());
    }
    Ok((2 * tokens * width * width) as f64 / best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Policy;
    use engine::Model;
    use engine::synthetic::Synthetic;

    const CPU: Place = Place { device: &Device::Cpu, placement: Placement::CPU, budget: u64::MAX };

    fn mini() -> Sizes {
        Sizes::of(&Model::Synthetic(Synthetic::FluxMini)).unwrap()
    }

    #[test]
    fn grows_with_the_work() {
        let base = Recipe { steps: 100, ..Recipe::default() };
        let predict = |recipe: &Recipe| predict(&mini(), &CPU, recipe, 10).unwrap();
        let once = predict(&base);
        assert!(once.seconds > 0.0 && once.checkpointing == Checkpointing::None);
        let twice = predict(&Recipe { steps: 200, ..base.clone() });
        assert!((1.8..=2.0).contains(&(twice.seconds / once.seconds)));
        assert!(predict(&Recipe { batch_size: 4, ..base.clone() }).peak_mib > once.peak_mib);
        let full = predict(&Recipe { gradient_checkpointing: Policy::Full, ..base.clone() });
        assert!(full.peak_mib < once.peak_mib && full.seconds > once.seconds);
        assert!(predict(&Recipe { sample_prompts: vec!["a".into()], ..base }).seconds > once.seconds);
    }

    /// 241, 362 and 603 MiB with batches of 1, 2 and 4, 158 MiB when each block is run again.
    #[test]
    fn memory_is_what_was_measured_with_flux_mini() {
        let predict = |batch_size, gradient_checkpointing| {
            let recipe = Recipe { batch_size, gradient_checkpointing, ..Recipe::default() };
            predict(&mini(), &CPU, &recipe, 10).unwrap().peak_mib
        };
        for (batch, policy, measured) in
            [(1, Policy::None, 241.0), (2, Policy::None, 362.0), (4, Policy::None, 603.0), (1, Policy::Full, 158.0)]
        {
            let predicted = predict(batch, policy);
            assert!((predicted / measured - 1.0).abs() < 0.1, "{predicted} instead of {measured}");
        }
    }

    #[test]
    fn auto_keeps_what_the_budget_allows() {
        let checkpointing = |budget| predict(&mini(), &Place { budget, ..CPU }, &Recipe::default(), 10).unwrap().checkpointing;
        assert_eq!(checkpointing(1 << 40), Checkpointing::None);
        assert_eq!(checkpointing(1), Checkpointing::Full);
    }

    #[test]
    fn targets_that_the_model_lacks_are_refused() {
        let recipe = Recipe { targets: "no_such_layer".into(), ..Recipe::default() };
        assert!(predict(&mini(), &CPU, &recipe, 10).unwrap_err().to_string().contains("no_such_layer"));
    }
}
