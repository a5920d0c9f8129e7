//! How long a run will take and how much memory it will need, told before it begins.
//!
//! Time is the products of a FLUX block counted for (model, recipe), divided by the rate at which this machine multiplies, which is
//! measured once. Memory is what was measured with flux-mini, scaled by tokens, layers, width and batch.

use crate::Recipe;
use engine::transformer::Config;
use engine::{DType, Device, Tensor, ops};
use std::sync::OnceLock;
use std::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Prediction {
    pub seconds: f64,
    pub peak_mib: f64,
}

/// Share of the product rate that a whole training step reaches: norms, softmax and memory traffic take the rest.
const EFFICIENCY: f64 = 0.2;
/// Operations a picture's pixel costs in the VAE, for a transformer of full width; a smaller model's is smaller in proportion to its width.
const VAE_OPERATIONS_A_PIXEL: f64 = 1.1e6;
const FULL_WIDTH: f64 = 3072.0;
/// Floats kept for backward by a block, per token and unit of width: flux-mini at 256x256 peaks at 241, 362 and 603 MiB with batches of
/// 1, 2 and 4.
const KEPT: f64 = 36.0;
/// Blocks' worth of that alive at once when each block is run again: 158 MiB with a batch of 1.
const ALIVE: f64 = 2.5;
/// What the process holds beside the model: allocator, runtime, page cache of its own.
const BASE_MIB: f64 = 45.0;

/// Predicts a run of `recipe` on `items` pictures, on this machine's CPU.
pub fn predict(model: &Config, recipe: &Recipe, items: usize) -> Prediction {
    let work = Work::of(model, recipe);
    let operations = work.training(recipe) + work.samples(recipe) + work.preparation(recipe, items);
    Prediction { seconds: operations / (EFFICIENCY * operations_per_second()), peak_mib: work.peak_mib(recipe) }
}

/// Operations of one example (one row of a batch).
struct Work {
    tokens: f64,
    width: f64,
    blocks: f64,
    /// Products with weights, one forward pass.
    linear: f64,
    /// Attention, one forward pass.
    attention: f64,
    vae: f64,
    parameters: f64,
}

impl Work {
    fn of(model: &Config, recipe: &Recipe) -> Self {
        let width = (model.num_attention_heads * model.attention_head_dim) as f64;
        let (double, single) = (model.num_layers as f64, model.num_single_layers as f64);
        let tokens = (recipe.resolution.tokens() + recipe.max_sequence_length) as f64;
        let pixels = (recipe.resolution.width() * recipe.resolution.height()) as f64;
        Self {
            tokens,
            width,
            blocks: double + single,
            // q, k, v, out and an MLP four wide: 12·width² weights a token in either kind of block.
            linear: (double + single) * 24.0 * width * width * tokens,
            attention: (double + single) * 4.0 * tokens * tokens * width,
            vae: pixels * VAE_OPERATIONS_A_PIXEL * (width / FULL_WIDTH).min(1.0),
            // Both streams with their modulation; a single block with its own.
            parameters: (36.0 * double + 15.0 * single) * width * width,
        }
    }

    fn forward(&self) -> f64 {
        self.linear + self.attention
    }

    /// Backward: the input's gradient costs one more product for each weight, attention two and a half.
    fn training(&self, recipe: &Recipe) -> f64 {
        let again = if recipe.gradient_checkpointing { self.forward() } else { 0.0 };
        let step = self.forward() + self.linear + 2.5 * self.attention + again;
        step * (recipe.steps * recipe.accumulate * recipe.batch_size) as f64
    }

    fn samples(&self, recipe: &Recipe) -> f64 {
        let checkpoints = if recipe.checkpoint_every == 0 { 1 } else { recipe.steps.div_ceil(recipe.checkpoint_every) };
        let picture = recipe.sample_steps as f64 * self.forward() + self.vae;
        picture * (checkpoints * recipe.sample_prompts.len()) as f64
    }

    fn preparation(&self, recipe: &Recipe, items: usize) -> f64 {
        let frames = if recipe.flip { 2.0 } else { 1.0 };
        items as f64 * frames * self.vae
    }

    fn peak_mib(&self, recipe: &Recipe) -> f64 {
        // Encoders and VAE hold half as much again as the transformer, in flux-mini as in FLUX.1.
        let weights = 1.5 * self.parameters;
        let rows = recipe.batch_size as f64;
        let kept = if recipe.gradient_checkpointing { self.blocks + ALIVE * KEPT } else { self.blocks * KEPT };
        (weights + rows * kept * self.tokens * self.width) * 4.0 / f64::from(1 << 20) + BASE_MIB
    }
}

/// How fast this machine multiplies by a frozen weight, measured once with the engine's own product.
fn operations_per_second() -> f64 {
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(|| measure().unwrap_or(FALLBACK))
}

/// Two cores of a small virtual machine.
const FALLBACK: f64 = 1e11;

fn measure() -> engine::Result<f64> {
    const TOKENS: usize = 384;
    const WIDTH: usize = 1024;
    let weight = ops::Weight::new(&Tensor::ones((WIDTH, WIDTH), DType::F32, &Device::Cpu)?)?;
    let x = Tensor::ones((1, TOKENS, WIDTH), DType::F32, &Device::Cpu)?;
    let mut best = f64::INFINITY;
    // The best of a few: the first warms up, others may be interrupted.
    for _ in 0..6 {
        let started = Instant::now();
        ops::linear(&x, &weight, None)?;
        best = best.min(started.elapsed().as_secs_f64());
    }
    Ok((2 * TOKENS * WIDTH * WIDTH) as f64 / best)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mini() -> Config {
        let json = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/flux-mini/transformer/config.json")).unwrap();
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn grows_with_the_work() {
        let base = Recipe { steps: 100, ..Recipe::default() };
        let predict = |recipe: &Recipe| predict(&mini(), recipe, 10);
        let once = predict(&base);
        assert!(once.seconds > 0.0 && once.peak_mib > BASE_MIB);
        let twice = predict(&Recipe { steps: 200, ..base.clone() });
        assert!((1.8..=2.0).contains(&(twice.seconds / once.seconds)));
        assert!(predict(&Recipe { batch_size: 4, ..base.clone() }).peak_mib > once.peak_mib);
        assert!(predict(&Recipe { gradient_checkpointing: true, ..base.clone() }).peak_mib < once.peak_mib);
        assert!(predict(&Recipe { sample_prompts: vec!["a".into()], ..base }).seconds > once.seconds);
    }

    /// FLUX.1-dev: 11.9 billion parameters.
    #[test]
    fn counts_the_parameters_of_the_full_model() {
        let full = Config { num_layers: 19, num_single_layers: 38, attention_head_dim: 128, num_attention_heads: 24, ..mini() };
        assert!((Work::of(&full, &Recipe::default()).parameters / 11.9e9 - 1.0).abs() < 0.02);
    }
}
