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

use crate::{
    Error, Result,
    checkpoint::{self, Checkpoint},
    cores::on_the_cores,
    latents::Latents,
};
use candle_core::{DType, Device, Tensor};
use config::Config;
use decoder::Decoder;
use encoder::Encoder;
use image::RgbImage;
use layers::Conv2d;
use preview::LatentToRgb;
use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

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
    encoder: Encoder,
    quant_conv: Option<Conv2d>,
    post_quant_conv: Option<Conv2d>,
    decoder: Decoder,
    device: Device,
    files: Vec<PathBuf>,
    fingerprint: OnceLock<String>,
    latent_to_rgb: OnceLock<LatentToRgb>,
}

impl Vae {
    pub fn load(model: &Path, device: &Device) -> Result<Self> {
        let checkpoint = Checkpoint::open(model, "vae", device)?;
        let config: Config = checkpoint.config()?;
        config.check().map_err(|problem| checkpoint.config_error(problem))?;
        let (keys, latent) = (checkpoint.keys(), config.latent_channels);
        let pointwise =
            |wanted: bool, name: &str, channels: usize| wanted.then(|| Conv2d::load(&keys.at(name), channels, channels, 1)).transpose();
        let vae = Self {
            scaling_factor: config.scaling_factor,
            shift_factor: config.shift_factor,
            encoder: Encoder::load(&keys.at("encoder"), &config)?,
            quant_conv: pointwise(config.use_quant_conv, "quant_conv", 2 * latent)?,
            post_quant_conv: pointwise(config.use_post_quant_conv, "post_quant_conv", latent)?,
            decoder: Decoder::load(&keys.at("decoder"), &config)?,
            device: device.clone(),
            files: checkpoint.files(),
            fingerprint: OnceLock::new(),
            latent_to_rgb: OnceLock::new(),
        };
        checkpoint.report_unused();
        Ok(vae)
    }

    /// pictures: [B, 3, H, W] in -1..=1, sides multiples of 8
    pub fn encode(&self, pictures: &Tensor) -> Result<Posterior> {
        let (b, channels, h, w) = pictures.dims4()?;
        if channels != 3 || h == 0 || w == 0 || h % 8 != 0 || w % 8 != 0 {
            return Err(Error::invalid(format!(
                "pictures [{b}, {channels}, {h}, {w}]: 3 channels and sides that are multiples of 8 can be encoded"
            )));
        }
        let mut moments = on_the_cores(|| self.encoder.forward(pictures))?;
        if let Some(conv) = &self.quant_conv {
            moments = conv.forward(&moments)?;
        }
        let latent = moments.dim(1)? / 2;
        // The same limits as `DiagonalGaussianDistribution`.
        let logvar = moments.narrow(1, latent, latent)?.clamp(-30f32, 20f32)?;
        Ok(Posterior { mean: moments.narrow(1, 0, latent)?.contiguous()?, logvar })
    }

    /// Raw latents (not normalised) → [B, 3, H, W], about -1..=1
    pub fn decode_raw(&self, z: &Tensor) -> Result<Tensor> {
        on_the_cores(|| match &self.post_quant_conv {
            Some(conv) => self.decoder.forward(&conv.forward(z)?),
            None => self.decoder.forward(z),
        })
    }

    /// Normalised latents → pictures, one at a time to bound memory.
    pub fn decode(&self, latents: &Latents) -> Result<Vec<RgbImage>> {
        let z = ((&latents.0 / self.scaling_factor)? + self.shift_factor)?;
        let one = |i| to_rgb(&self.decode_raw(&z.narrow(0, i, 1)?)?);
        (0..z.dim(0)?).map(one).collect()
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
