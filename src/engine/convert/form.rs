//! The forms that a model can be written in.

use crate::{Error, Result};
use candle_core::quantized::GgmlDType;
use std::{fmt, str::FromStr};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A folder in diffusers layout, not quantised.
    Bf16,
    /// The same, its linear layers in bitsandbytes' NF4 with double quantisation.
    Nf4,
    /// The same in bitsandbytes' int8.
    Int8,
    /// ComfyUI's file of a transformer in fp8 e4m3, a scale for each layer.
    Fp8,
    /// A GGUF file of a transformer, its layers in blocks of this type.
    Gguf(GgmlDType),
}

const NAMES: [(&str, Form); 11] = [
    ("bf16", Form::Bf16),
    ("nf4", Form::Nf4),
    ("int8", Form::Int8),
    ("fp8", Form::Fp8),
    ("q8_0", Form::Gguf(GgmlDType::Q8_0)),
    ("q6_k", Form::Gguf(GgmlDType::Q6K)),
    ("q5_k", Form::Gguf(GgmlDType::Q5K)),
    ("q5_0", Form::Gguf(GgmlDType::Q5_0)),
    ("q4_k", Form::Gguf(GgmlDType::Q4K)),
    ("q4_0", Form::Gguf(GgmlDType::Q4_0)),
    ("f16", Form::Gguf(GgmlDType::F16)),
];

impl Form {
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, form)| *form == self).map_or("gguf", |(name, _)| name)
    }

    /// Whether it is one file of the transformer, instead of a folder of the whole model.
    pub fn is_file(self) -> bool {
        self.ending().is_some()
    }

    /// How the name of its file ends.
    pub fn ending(self) -> Option<&'static str> {
        match self {
            Self::Bf16 | Self::Nf4 | Self::Int8 => None,
            Self::Fp8 => Some("safetensors"),
            Self::Gguf(_) => Some("gguf"),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Form {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = NAMES.iter().find(|(name, _)| *name == text).map(|(_, form)| *form);
        found.ok_or_else(|| Error::invalid(format!("form {text:?}: choose {}", NAMES.map(|(name, _)| name).join(", "))))
    }
}
