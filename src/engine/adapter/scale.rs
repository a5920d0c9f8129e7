//! Where the scale of an adapter's layer comes from: alpha in tensors, in the header, or in PEFT's own file beside; else alpha is the rank.

use super::{
    TEXT_ENCODER, TRANSFORMER,
    header::{self, PeftConfig},
};
use std::collections::BTreeMap;

pub enum Scales {
    /// The file says nothing: alpha is the rank.
    One,
    Tensors {
        own: BTreeMap<String, f64>,
        /// What diffusers gives layers without one of their own: the most common value. Elsewhere it is their rank.
        others: Option<f64>,
    },
    Config {
        transformer: Option<PeftConfig>,
        text_encoder: Option<PeftConfig>,
    },
}

impl Scales {
    /// `alphas`: by the layer's name in the file. `config`: PEFT's adapter_config.json.
    pub fn new(
        metadata: &BTreeMap<String, String>,
        config: Option<&str>,
        alphas: BTreeMap<String, f64>,
        as_diffusers: bool,
    ) -> Result<Self, String> {
        let header = metadata.get(header::KEY);
        let parsed = |component| header.map_or(Ok(None), |header| PeftConfig::parse(header, component));
        let (transformer, text_encoder) = match config {
            Some(config) => (Some(PeftConfig::parse_own(config)?), None),
            None => (parsed(TRANSFORMER)?, parsed(TEXT_ENCODER)?),
        };
        match (transformer, text_encoder) {
            (None, None) if alphas.is_empty() => Ok(Self::One),
            (None, None) => {
                let others = as_diffusers.then(|| most_common(&alphas));
                Ok(Self::Tensors { own: alphas, others })
            }
            (transformer, text_encoder) if alphas.is_empty() => Ok(Self::Config { transformer, text_encoder }),
            _ => Err("alpha is given twice, in tensors and in the header; diffusers refuses such a file too".into()),
        }
    }

    /// Whether PEFT is said to have decomposed the weights of this component.
    pub fn say_dora(&self) -> bool {
        match self {
            Self::Config { transformer, text_encoder } => [transformer, text_encoder].into_iter().flatten().any(|config| config.use_dora),
            _ => false,
        }
    }

    /// `name`: in the file; `path`: diffusers' name; `rank`: none if the factors are whole.
    pub fn of(&self, name: &str, path: &str, rank: Option<usize>) -> Result<f64, String> {
        let over = |alpha: f64, rank: Option<usize>| rank.map_or(1.0, |rank| alpha / rank as f64);
        let scale = match self {
            Self::One => 1.0,
            Self::Tensors { own, others } => own.get(name).copied().or(*others).map_or(1.0, |alpha| over(alpha, rank)),
            Self::Config { transformer, text_encoder } => {
                let (config, path) = match path.strip_prefix(TEXT_ENCODER) {
                    Some(path) => (text_encoder, path),
                    None => (transformer, path),
                };
                config.as_ref().map_or(Ok(1.0), |config| config.scale(path, rank))?
            }
        };
        if scale.is_finite() { Ok(scale) } else { Err(format!("{path}: its alpha is not a finite number")) }
    }
}

/// The alpha that occurs most often.
fn most_common(alphas: &BTreeMap<String, f64>) -> f64 {
    let count = |alpha: f64| alphas.values().filter(|&&other| other == alpha).count();
    alphas.values().copied().max_by_key(|&alpha| count(alpha)).unwrap_or(1.0)
}
