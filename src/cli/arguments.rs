//! Flags that several subcommands share, with their defaults.

use super::{fault::usage, progress};
use crate::config;
use anyhow::Result;
use clap::Args;
use engine::{Device, GenerateParams, Model, Pipeline, Precision, Size, checkpoint::Chosen, device::Choice};
use std::{fmt, path::PathBuf, str::FromStr};

#[derive(Args, Clone, Debug)]
pub struct ModelArguments {
    /// FLUX.1: a folder in diffusers layout, or a file of BFL's, ComfyUI's or GGUF [default: models/flux-mini]
    #[arg(long, value_name = "DIR|FILE", env = "ATELIER_MODEL", hide_env = true)]
    model: Option<PathBuf>,
    /// File of CLIP, where it is not beside the model
    #[arg(long, value_name = "FILE")]
    clip: Option<PathBuf>,
    /// File of T5, where it is not beside the model
    #[arg(long, value_name = "FILE")]
    t5: Option<PathBuf>,
    /// File of the VAE, where it is not beside the model
    #[arg(long, value_name = "FILE")]
    vae: Option<PathBuf>,
    /// FLUX.1 folder in diffusers layout for what the model's files lack, such as tokenizers
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArguments,
}

/// Where a model is, and how it is held there.
#[derive(Args, Clone, Debug)]
pub struct DeviceArguments {
    /// The CPU, or an NVIDIA GPU by its number; auto takes the first GPU there is
    #[arg(long = "device", default_value_t = Choice::Auto, value_name = "auto|cpu|cuda:N", env = "ATELIER_DEVICE", hide_env = true)]
    pub choice: Choice,
    /// Of the transformer's weights: f32 on the CPU; on a GPU auto takes bf16 if it fits, else fp8 or nf4
    #[arg(long, default_value_t = Held::Auto, value_name = "auto|f32|bf16|fp8|nf4", env = "ATELIER_PRECISION", hide_env = true)]
    precision: Held,
}

impl DeviceArguments {
    pub fn open(&self) -> Result<Device> {
        Ok(self.choice.open()?)
    }

    /// `None` is what the device holds best.
    pub fn precision(&self) -> Option<Precision> {
        match self.precision {
            Held::Auto => None,
            Held::In(precision) => Some(precision),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Held {
    Auto,
    In(Precision),
}

impl FromStr for Held {
    type Err = engine::Error;

    fn from_str(text: &str) -> engine::Result<Self> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::In) }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::In(precision) => precision.fmt(f),
        }
    }
}

impl ModelArguments {
    /// The folder or file asked for, or the model that Atelier brings along.
    pub fn path(&self) -> PathBuf {
        self.model.clone().unwrap_or_else(config::default_model)
    }

    /// What was chosen to go with it.
    pub fn chosen(&self) -> Chosen {
        Chosen { clip: self.clip.clone(), t5: self.t5.clone(), vae: self.vae.clone(), base: self.base.clone() }
    }

    pub fn find(&self) -> Result<Model> {
        Ok(Model::open(&self.path(), &self.chosen())?)
    }

    pub fn load(&self) -> Result<Pipeline> {
        self.load_as(self.find()?)
    }

    /// Another model in the place of the one asked for.
    pub fn load_as(&self, model: Model) -> Result<Pipeline> {
        let device = self.device.open()?;
        let what = match &model {
            Model::Folder(folder) => folder.display().to_string(),
            Model::Assembly(_) | Model::Synthetic(_) => model.name(),
        };
        let line = progress::waiting(&format!("loading {what}"));
        let pipeline = Pipeline::load_in(model, &device, self.device.precision());
        line.finish_and_clear();
        Ok(pipeline?)
    }
}

/// What decides a picture beside prompt, seed and adapters.
#[derive(Args, Clone, Debug)]
pub struct PictureArguments {
    /// Pixels across, a multiple of 16
    #[arg(long, default_value_t = 256, value_name = "N")]
    width: usize,
    /// Pixels down, a multiple of 16
    #[arg(long, default_value_t = 256, value_name = "N")]
    height: usize,
    /// Denoising steps, 1 to 200
    #[arg(long, default_value_t = 20, value_name = "N")]
    steps: usize,
    /// How closely to follow the prompt: 2 to 5 suits most
    #[arg(long, default_value_t = 3.5, value_name = "G")]
    guidance: f64,
    /// Tokens of the prompt that T5 reads, 1 to 512
    #[arg(long, default_value_t = 128, value_name = "N")]
    max_sequence_length: usize,
}

impl PictureArguments {
    /// One picture's parameters without adapters, checked before any model is loaded.
    pub fn params(&self, prompt: &str, seed: u64) -> Result<GenerateParams> {
        let size = Size::new(self.width, self.height)?;
        let params = GenerateParams {
            steps: self.steps,
            guidance: self.guidance,
            max_sequence_length: self.max_sequence_length,
            seed,
            ..GenerateParams::new(prompt, size)
        };
        params.check()?;
        Ok(params)
    }
}

/// The seeds of `count` pictures in a row.
pub fn seeds(first: u64, count: usize) -> Result<Vec<u64>> {
    const MOST: usize = 1000;
    if !(1..=MOST).contains(&count) {
        return Err(usage(format!("count {count} must be from 1 to {MOST}")));
    }
    Ok((0..count as u64).map(|i| first.wrapping_add(i)).collect())
}
