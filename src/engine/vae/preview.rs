//! A linear latent-to-RGB map, fitted to the model itself.
//!
//! A chart of known colours is encoded once, and the map that gives its colours back from its latents with the least
//! squared error is kept: no table per model, and it follows any VAE of this layout.

use super::Vae;
use crate::{Result, latents::CHANNELS};
use candle_core::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Side of the chart in pixels; its 16×16 latents are 256 equations for 17 unknowns a colour.
const SIDE: usize = 128;
/// Side of a patch of one colour: 3 latents, so that most latents see edges as in a picture and some see none.
const PATCH: usize = 24;
/// Latents have a variance near 1; a little of it keeps channels that carry no colour from being amplified.
const RIDGE: f64 = 1e-2;
const UNKNOWNS: usize = CHANNELS + 1;

/// RGB in -1..=1 = weight·latent + bias.
pub struct LatentToRgb {
    /// [3, 16]
    weight: Tensor,
    /// [3, 1]
    bias: Tensor,
}

impl LatentToRgb {
    pub fn fit(vae: &Vae) -> Result<Self> {
        let chart = chart();
        let picture = Tensor::from_slice(&chart, (1, 3, SIDE, SIDE), &vae.device)?;
        let latents = vae.normalise(&vae.encode(&picture)?.mean)?.0;
        let latents = latents.reshape((CHANNELS, ()))?.to_vec2::<f32>()?;
        let colours =
            Tensor::from_slice(&chart, (1, 3, SIDE, SIDE), &candle_core::Device::Cpu)?.avg_pool2d(8)?.reshape((3, ()))?.to_vec2::<f32>()?;
        let solved = least_squares(&latents, &colours);
        let weight: Vec<f32> = solved.iter().flat_map(|row| &row[..CHANNELS]).map(|&x| x as f32).collect();
        let bias: Vec<f32> = solved.iter().map(|row| row[CHANNELS] as f32).collect();
        Ok(Self { weight: Tensor::from_vec(weight, (3, CHANNELS), &vae.device)?, bias: Tensor::from_vec(bias, (3, 1), &vae.device)? })
    }

    /// [B, 16, h, w] → [B, 3, h, w]
    pub fn apply(&self, latents: &Tensor) -> Result<Tensor> {
        let (b, c, h, w) = latents.dims4()?;
        let flat = latents.reshape((b, c, h * w))?;
        Ok(self.weight.broadcast_matmul(&flat)?.broadcast_add(&self.bias)?.reshape((b, 3, h, w))?)
    }
}

/// Patches of random colours under a gentle slope of light, [3, SIDE, SIDE] in -1..=1. Always the same.
fn chart() -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let patches = SIDE.div_ceil(PATCH);
    let colours: Vec<[f32; 3]> = (0..patches * patches).map(|_| std::array::from_fn(|_| rng.random_range(-0.9..0.9))).collect();
    let slope = |x: usize, y: usize| 0.1 * ((x + y) as f32 / SIDE as f32 - 1.0);
    let pixel = |c: usize, y: usize, x: usize| colours[y / PATCH * patches + x / PATCH][c] + slope(x, y);
    (0..3).flat_map(|c| (0..SIDE).flat_map(move |y| (0..SIDE).map(move |x| (c, y, x)))).map(|(c, y, x)| pixel(c, y, x)).collect()
}

/// For each colour channel the 16 weights and the bias that minimise Σ(w·z + b - colour)² + ridge·|w|².
fn least_squares(latents: &[Vec<f32>], colours: &[Vec<f32>]) -> Vec<[f64; UNKNOWNS]> {
    let places = colours[0].len();
    let sample = |unknown: usize, place: usize| latents.get(unknown).map_or(1.0, |channel| f64::from(channel[place]));
    let mut normal = [[0.0; UNKNOWNS]; UNKNOWNS];
    for (i, row) in normal.iter_mut().enumerate() {
        for (j, cell) in row.iter_mut().enumerate() {
            *cell = (0..places).map(|p| sample(i, p) * sample(j, p)).sum();
        }
        row[i] += if i < CHANNELS { RIDGE * places as f64 } else { 0.0 };
    }
    let right = |colour: &Vec<f32>| std::array::from_fn(|i| (0..places).map(|p| sample(i, p) * f64::from(colour[p])).sum());
    colours.iter().map(|colour| solve(normal, right(colour))).collect()
}

/// Gaussian elimination; the ridge makes the matrix positive definite, so no pivoting is needed.
fn solve(mut matrix: [[f64; UNKNOWNS]; UNKNOWNS], mut right: [f64; UNKNOWNS]) -> [f64; UNKNOWNS] {
    for i in 0..UNKNOWNS {
        for j in i + 1..UNKNOWNS {
            let factor = matrix[j][i] / matrix[i][i];
            for k in i..UNKNOWNS {
                matrix[j][k] -= factor * matrix[i][k];
            }
            right[j] -= factor * right[i];
        }
    }
    for i in (0..UNKNOWNS).rev() {
        let known: f64 = (i + 1..UNKNOWNS).map(|k| matrix[i][k] * right[k]).sum();
        right[i] = (right[i] - known) / matrix[i][i];
    }
    right
}
