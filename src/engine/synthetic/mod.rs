//! Models of a real configuration with made-up weights: their time and memory are the real model's, their pictures are noise.

use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

/// Which configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synthetic {
    /// black-forest-labs/FLUX.1-dev: 12 billion parameters with T5-XXL, CLIP-L and its VAE.
    FluxDev,
    /// Atelier's own small model.
    FluxMini,
}

impl Synthetic {
    const ALL: [Self; 2] = [Self::FluxDev, Self::FluxMini];

    pub fn name(self) -> &'static str {
        match self {
            Self::FluxDev => "flux-dev",
            Self::FluxMini => "flux-mini",
        }
    }

    /// The configuration of a part: `transformer`, `text_encoder`, `text_encoder_2`, `vae`, `scheduler`.
    pub fn config<T: DeserializeOwned>(self, part: &str) -> T {
        let mut all: Value = serde_json::from_str(self.configs()).expect("the configurations are JSON");
        serde_json::from_value(all[part].take()).expect("each part has its configuration")
    }

    fn configs(self) -> &'static str {
        match self {
            Self::FluxDev => include_str!("flux-dev.json"),
            Self::FluxMini => include_str!("flux-mini.json"),
        }
    }

    /// A tensor as a checkpoint would store it, in bf16, drawn on the device: norms near 1, biases near 0, matrices that keep the
    /// size of what they multiply. On the CPU a key is always the same numbers.
    pub fn draw(self, key: &str, shape: &[usize], device: &Device) -> Result<Tensor> {
        let (mean, deviation) = distribution(key, shape);
        let values = match device {
            Device::Cpu => normal(key, shape, mean, deviation)?,
            _ => Tensor::randn(mean as f32, deviation as f32, shape, device)?,
        };
        Ok(values.to_dtype(DType::BF16)?)
    }
}

fn distribution(key: &str, shape: &[usize]) -> (f64, f64) {
    match shape {
        [_] if key.ends_with("bias") => (0.0, 0.02),
        [_] => (1.0, 0.02),
        [_, inputs @ ..] => (0.0, (inputs.iter().product::<usize>().max(1) as f64).powf(-0.5)),
        [] => (0.0, 1.0),
    }
}

fn normal(key: &str, shape: &[usize], mean: f64, deviation: f64) -> Result<Tensor> {
    let rng = ChaCha8Rng::from_seed(Sha256::digest(key).into());
    let normal = Distribution::<f32>::sample_iter(StandardNormal, rng);
    let values: Vec<f32> = normal.take(shape.iter().product()).map(|x| x * deviation as f32 + mean as f32).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

impl fmt::Display for Synthetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Synthetic {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|model| model.name() == text);
        found.ok_or_else(|| Error::invalid(format!("there is no synthetic model {text:?}; choose flux-dev or flux-mini")))
    }
}
