//! How the weights of a model's linear layers are held.

use crate::{Error, Result};
use candle_core::DType;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The form of the large weights. Everything else of a model (biases, norms, embeddings, convolutions) has the type of [`Self::dtype`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    F32,
    Bf16,
    /// e4m3 with a scale for each output row.
    Fp8,
    /// 4-bit NormalFloat in blocks of 64.
    Nf4,
}

impl Precision {
    pub const ALL: [Self; 4] = [Self::F32, Self::Bf16, Self::Fp8, Self::Nf4];

    /// The type of activations, and of all that is not quantised.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 | Self::Fp8 | Self::Nf4 => DType::BF16,
        }
    }

    /// Of what is never quantised beside a transformer in this precision: its modulation, embedders and last layer; CLIP and the VAE.
    pub fn unquantised(self) -> Self {
        match self {
            Self::F32 => Self::F32,
            Self::Bf16 | Self::Fp8 | Self::Nf4 => Self::Bf16,
        }
    }

    /// What weights take so, with the scales of their rows or blocks.
    pub fn bytes_of(self, weights: u64) -> u64 {
        match self {
            Self::F32 => 4 * weights,
            Self::Bf16 => 2 * weights,
            // A scale of 4 bytes for a row of thousands.
            Self::Fp8 => weights + weights / 512,
            // A byte for a block of 64, and 4 for 256 of those.
            Self::Nf4 => weights / 2 + weights / 64 + weights / 4096,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
            Self::Nf4 => "nf4",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|precision| precision.name() == text);
        found.ok_or_else(|| Error::invalid(format!("precision {text:?}: choose f32, bf16, fp8 or nf4")))
    }
}
