//! AutoencoderKL: picture ↔ latents.
//!
//! diffusers `models/autoencoders/autoencoder_kl.py`, `models/autoencoders/vae.py`.

mod attention;
mod config;
mod decoder;
mod encoder;
mod layers;
mod preview;
mod resnet;
mod tiling;

pub use config::Config;
pub use tiling::Tiling;

use crate::{
    Error, Model, Precision, Result,
    checkpoint::{self, Checkpoint},
    cores::on_the_cores,
    device,
    evictable::Evictable,
    latents::Latents,
    memory,
};
use candle_core::{DType, Device, Tensor};
use decoder::Decoder;
use encoder::Encoder;
use image::RgbImage;
use layers::Conv2d;
use preview::LatentToRgb;
use std::{path::PathBuf, sync::OnceLock};

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
    config: Config,
    weights: Evictable<Weights>,
    device: Device,
    files: Vec<PathBuf>,
    fingerprint: OnceLock<String>,
    latent_to_rgb: OnceLock<LatentToRgb>,
}

struct Weights {
    encoder: Encoder,
    quant_conv: Option<Conv2d>,
    post_quant_conv: Option<Conv2d>,
    decoder: Decoder,
    /// Of activations: f32 on the CPU, bf16 elsewhere.
    dtype: DType,
}

impl Weights {
    fn load(checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        let config: Config = checkpoint.config()?;
        let (keys, latent) = (checkpoint.keys().with(precision), config.latent_channels);
        let pointwise =
            |wanted: bool, name: &str, channels: usize| wanted.then(|| Conv2d::load(&keys.at(name), channels, channels, 1)).transpose();
        let weights = Self {
            encoder: Encoder::load(&keys.at("encoder"), &config)?,
            quant_conv: pointwise(config.use_quant_conv, "quant_conv", 2 * latent)?,
            post_quant_conv: pointwise(config.use_post_quant_conv, "post_quant_conv", latent)?,
            decoder: Decoder::load(&keys.at("decoder"), &config)?,
            dtype: keys.dtype(),
        };
        checkpoint.report_unused();
        Ok(weights)
    }

    /// [B, 3, H, W] → means and log variances [B, 2·16, H/8, W/8], in f32
    fn encode(&self, pictures: &Tensor) -> Result<Tensor> {
        let moments = self.encoder.forward(&pictures.to_dtype(self.dtype)?)?;
        let moments = self.quant_conv.as_ref().map_or(Ok(moments.clone()), |conv| conv.forward(&moments))?;
        Ok(moments.to_dtype(DType::F32)?)
    }

    /// [B, 16, h, w] → [B, 3, 8·h, 8·w], in f32
    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        let z = z.to_dtype(self.dtype)?;
        let z = self.post_quant_conv.as_ref().map_or(Ok(z.clone()), |conv| conv.forward(&z))?;
        Ok(self.decoder.forward(&z)?.to_dtype(DType::F32)?)
    }
}

impl Vae {
    /// Checks the configuration and where the weights are; they are loaded when they are first needed.
    pub fn open(model: &Model, device: &Device, precision: Precision) -> Result<Self> {
        let checkpoint = model.part("vae", device)?;
        let config: Config = checkpoint.config()?;
        config.check().map_err(|problem| checkpoint.config_error(problem))?;
        let (model, place) = (model.clone(), device.clone());
        Ok(Self {
            scaling_factor: config.scaling_factor,
            shift_factor: config.shift_factor,
            config,
            weights: Evictable::new(move || Weights::load(&model.part("vae", &place)?, precision)),
            device: device.clone(),
            files: checkpoint.files(),
            fingerprint: OnceLock::new(),
            latent_to_rgb: OnceLock::new(),
        })
    }

    /// Loads the weights now.
    pub fn load(&self) -> Result<()> {
        self.weights.get().map(drop)
    }

    /// Frees their memory until the next picture.
    pub fn evict(&self) {
        self.weights.evict();
    }

    pub fn is_resident(&self) -> bool {
        self.weights.is_resident()
    }

    /// pictures: [B, 3, H, W] in -1..=1, sides multiples of 8
    pub fn encode(&self, pictures: &Tensor) -> Result<Posterior> {
        let (b, channels, h, w) = pictures.dims4()?;
        if channels != 3 || h == 0 || w == 0 || h % 8 != 0 || w % 8 != 0 {
            return Err(Error::invalid(format!(
                "pictures [{b}, {channels}, {h}, {w}]: 3 channels and sides that are multiples of 8 can be encoded"
            )));
        }
        let weights = self.weights.get()?;
        let moments = on_the_cores(|| weights.encode(pictures))?;
        let latent = moments.dim(1)? / 2;
        // The same limits as `DiagonalGaussianDistribution`.
        let logvar = moments.narrow(1, latent, latent)?.clamp(-30f32, 20f32)?;
        Ok(Posterior { mean: moments.narrow(1, 0, latent)?.contiguous()?, logvar })
    }

    /// Raw latents (not normalised) → [B, 3, H, W], about -1..=1
    pub fn decode_raw(&self, z: &Tensor) -> Result<Tensor> {
        let weights = self.weights.get()?;
        on_the_cores(|| weights.decode(z))
    }

    /// The same in overlapping tiles, whose feature maps need a fraction of the memory. z: [1, 16, h, w]
    pub fn decode_tiled(&self, z: &Tensor, tiling: Tiling) -> Result<Tensor> {
        let weights = self.weights.get()?;
        on_the_cores(|| tiling.decode(z, |tile| weights.decode(tile)))
    }

    /// Normalised latents → pictures, one at a time to bound memory, and in tiles where a whole one does not fit.
    pub fn decode(&self, latents: &Latents) -> Result<Vec<RgbImage>> {
        let z = ((&latents.0 / self.scaling_factor)? + self.shift_factor)?;
        let (pictures, _, h, w) = z.dims4()?;
        self.weights.get()?;
        let tiled = !self.device.is_cpu() && device::memory(&self.device)?.free < memory::decoding(&self.config, h, w);
        let decode = |z: &Tensor| if tiled { self.decode_tiled(z, Tiling::default()) } else { self.decode_raw(z) };
        (0..pictures).map(|i| to_rgb(&decode(&z.narrow(0, i, 1)?)?)).collect()
    }

    /// (z - shift) · scale
    pub fn normalise(&self, z: &Tensor) -> Result<Latents> {
        Ok(Latents(((z - self.shift_factor)? * self.scaling_factor)?))
    }

    /// A small, fast look at unfinished latents: a linear latent-to-RGB map, one pixel per latent ([H/8, W/8]).
    pub fn preview(&self, latents: &Latents) -> Result<Vec<RgbImage>> {
        if self.latent_to_rgb.get().is_none() {
            let fitted = LatentToRgb::fit(self)?;
            self.latent_to_rgb.get_or_init(|| fitted);
        }
        let map = self.latent_to_rgb.get().expect("set above");
        let pixels = map.apply(&latents.0)?;
        (0..pixels.dim(0)?).map(|i| to_rgb(&pixels.narrow(0, i, 1)?)).collect()
    }

    /// SHA-256 of the weights: the cache key's share of the model. Computed once, lazily.
    pub fn fingerprint(&self) -> Result<String> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(known.clone());
        }
        let fresh = checkpoint::fingerprint(&self.files)?;
        Ok(self.fingerprint.get_or_init(|| fresh).clone())
    }
}

/// [1, 3, H, W] in -1..=1 → 8-bit pixels, rounded as diffusers' `VaeImageProcessor` does.
fn to_rgb(picture: &Tensor) -> Result<RgbImage> {
    let (_, _, h, w) = picture.dims4()?;
    let bytes = ((picture.squeeze(0)?.permute((1, 2, 0))? * 0.5)? + 0.5)?.clamp(0f32, 1f32)?;
    let bytes = (bytes * 255.0)?.round()?.to_dtype(DType::U8)?.flatten_all()?.to_vec1::<u8>()?;
    Ok(RgbImage::from_raw(w as u32, h as u32, bytes).expect("three bytes a pixel"))
}
