//! AutoencoderKL: picture ↔ latents.

use crate::{Result, latents::Latents};
use candle_core::{Device, Tensor};
use std::path::Path;

/// The encoder's distribution for each latent value.
#[derive(Clone, Debug)]
pub struct Posterior {
    /// [B, 16, H/8, W/8], not normalised
    pub mean: Tensor,
    pub logvar: Tensor,
}

pub struct Vae {
    pub scaling_factor: f64,
    pub shift_factor: f64,
}

impl Vae {
    pub fn load(model: &Path, device: &Device) -> Result<Self> {
        todo!()
    }

    /// pictures: [B, 3, H, W] in -1..=1
    pub fn encode(&self, pictures: &Tensor) -> Result<Posterior> {
        todo!()
    }

    /// Raw latents (not normalised) → [B, 3, H, W], about -1..=1
    pub fn decode_raw(&self, z: &Tensor) -> Result<Tensor> {
        todo!()
    }

    /// Normalised latents → pictures.
    pub fn decode(&self, latents: &Latents) -> Result<Vec<image::RgbImage>> {
        todo!()
    }

    /// (z - shift) · scale
    pub fn normalise(&self, z: &Tensor) -> Result<Latents> {
        todo!()
    }

    /// A small, fast look at unfinished latents: a linear latent-to-RGB map, one pixel per latent ([H/8, W/8]).
    pub fn preview(&self, latents: &Latents) -> Result<Vec<image::RgbImage>> {
        todo!()
    }

    /// SHA-256 of the weights: the cache key's share of the model.
    pub fn fingerprint(&self) -> Result<String> {
        todo!()
    }
}
