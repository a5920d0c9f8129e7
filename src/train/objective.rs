//! What a training example is and what it costs: flow matching between a picture and noise (diffusers' FLUX LoRA scripts).

use crate::recipe::{Recipe, TimestepSampling, Weighting};
use crate::{Error, Result};
use candle_core::{D, Tensor};
use engine::latents::PackedLatents;
use engine::{Device, device};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use std::f64::consts::PI;

/// FLUX.1's training table: sigma 1.000, 0.999, … 0.001.
const TRAIN_TIMESTEPS: usize = 1000;

/// Draws the noise level of one example. `mu` is the scheduler's for the picture's size; only `shifted` uses it.
pub fn sigma(recipe: &Recipe, mu: f64, rng: &mut ChaCha8Rng) -> f64 {
    let uniform = rng.random::<f64>();
    let u = match recipe.timestep_sampling {
        TimestepSampling::None | TimestepSampling::Shifted => uniform,
        TimestepSampling::LogitNormal => {
            let normal: f64 = StandardNormal.sample(rng);
            1.0 / (1.0 + (-(recipe.logit_mean + recipe.logit_std * normal)).exp())
        }
        TimestepSampling::Mode => mode(uniform, recipe.mode_scale),
    };
    let index = ((u * TRAIN_TIMESTEPS as f64) as usize).min(TRAIN_TIMESTEPS - 1);
    let sigma = (TRAIN_TIMESTEPS - index) as f64 / TRAIN_TIMESTEPS as f64;
    match recipe.timestep_sampling {
        TimestepSampling::Shifted => shift(sigma, mu),
        _ => sigma,
    }
}

/// Mode sampling with heavy tails (Esser et al. 2024, arXiv 2403.03206, eq. 20).
fn mode(u: f64, scale: f64) -> f64 {
    1.0 - u - scale * ((PI * u / 2.0).cos().powi(2) - 1.0 + u)
}

/// FLUX's shift of a sigma towards noise: e^mu / (e^mu + 1/sigma - 1).
fn shift(sigma: f64, mu: f64) -> f64 {
    mu.exp() / (mu.exp() + 1.0 / sigma - 1.0)
}

/// What an example counts at a noise level.
pub fn weight(weighting: Weighting, sigma: f64) -> f64 {
    match weighting {
        Weighting::None => 1.0,
        Weighting::SigmaSqrt => sigma.powi(-2),
        Weighting::Cosmap => 2.0 / (PI * (1.0 - 2.0 * sigma + 2.0 * sigma * sigma)),
    }
}

/// A micro-batch on its way between pictures and noise.
pub struct Example {
    /// (1 - sigma)·x + sigma·noise
    pub noisy: PackedLatents,
    /// noise - x: the velocity to be predicted, [B, tokens, 64]
    pub target: Tensor,
    /// [B, 1, 1]
    weights: Tensor,
}

impl Example {
    /// Mixes pictures with noise, a sigma for each row.
    pub fn new(pictures: &PackedLatents, noise: &PackedLatents, sigma: &[f64], weighting: Weighting) -> Result<Self> {
        let (x, noise) = (&pictures.0, &noise.0);
        let column = |values: Vec<f32>| device::send(&Tensor::from_vec(values, (sigma.len(), 1, 1), &Device::Cpu)?, x.device());
        let share = column(sigma.iter().map(|&sigma| sigma as f32).collect())?;
        let noisy = (x.broadcast_mul(&(1.0 - &share)?)? + noise.broadcast_mul(&share)?)?;
        let weights = column(sigma.iter().map(|&sigma| weight(weighting, sigma) as f32).collect())?;
        Ok(Self { noisy: PackedLatents(noisy), target: (noise - x)?, weights })
    }

    /// Mean over each row of w(sigma)·(prediction - target)², then over the batch; f32.
    pub fn loss(&self, prediction: &Tensor) -> engine::Result<Tensor> {
        let square = (prediction.to_dtype(candle_core::DType::F32)? - &self.target)?.sqr()?.broadcast_mul(&self.weights)?;
        Ok(square.flatten_from(1)?.mean(D::Minus1)?.mean_all()?)
    }
}

/// A loss that left the numbers ends the run with what to do about it.
pub fn check_finite(what: &str, value: f64, step: usize) -> Result<f64> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(Error::State(format!(
        "the {what} is no longer a number at step {step}: the learning rate is too high; lower it (a third is a good try) and go on from the last checkpoint or start again"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{self, Purpose};

    fn sigmas(sampling: TimestepSampling) -> Vec<f64> {
        let recipe = Recipe { timestep_sampling: sampling, ..Recipe::default() };
        let mut rng = random::keyed(1, Purpose::Timestep, &[]);
        (0..20_000).map(|_| sigma(&recipe, 1.15, &mut rng)).collect()
    }

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    #[test]
    fn sigmas_come_from_the_table_and_lean_as_their_names_say() {
        use TimestepSampling::*;
        for sampling in [None, LogitNormal, Mode] {
            let drawn = sigmas(sampling);
            assert!(
                drawn
                    .iter()
                    .all(|sigma| (0.001..=1.0).contains(sigma) && (sigma * 1000.0).fract().min(1.0 - (sigma * 1000.0).fract()) < 1e-6)
            );
            assert!((mean(&drawn) - 0.5).abs() < 0.02, "{sampling:?}");
        }
        let spread = |drawn: Vec<f64>| drawn.iter().map(|sigma| (sigma - 0.5).powi(2)).sum::<f64>() / drawn.len() as f64;
        assert!(spread(sigmas(LogitNormal)) < 0.6 * spread(sigmas(None)));
        // e^1.15 = 3.158: the median moves from 0.5 to 0.7595.
        let mut shifted = sigmas(Shifted);
        shifted.sort_by(f64::total_cmp);
        assert!((shifted[10_000] - 0.7595).abs() < 0.01);
    }

    #[test]
    fn weights_are_the_references() {
        assert_eq!(weight(Weighting::None, 0.3), 1.0);
        assert!((weight(Weighting::SigmaSqrt, 0.5) - 4.0).abs() < 1e-12);
        assert!((weight(Weighting::Cosmap, 0.5) - 4.0 / PI).abs() < 1e-12);
    }

    #[test]
    fn loss_of_a_perfect_prediction_is_zero_and_weights_count() -> Result<()> {
        let row = |value: f32| Tensor::full(value, (1, 4, 64), &Device::Cpu);
        let x = PackedLatents(Tensor::cat(&[row(1.0)?, row(2.0)?], 0)?);
        let noise = PackedLatents(Tensor::cat(&[row(3.0)?, row(2.0)?], 0)?);
        let example = Example::new(&x, &noise, &[0.25, 0.5], Weighting::SigmaSqrt)?;
        assert_eq!(example.noisy.0.get(0)?.flatten_all()?.to_vec1::<f32>()?[0], 1.5);
        assert_eq!(example.loss(&example.target)?.to_scalar::<f32>()?, 0.0);
        // Row 0 is off by 1 and weighs 16, row 1 is off by 1 and weighs 4.
        assert_eq!(example.loss(&(&example.target + 1.0)?)?.to_scalar::<f32>()?, 10.0);
        Ok(())
    }
}
