//! Flags that several subcommands share, with their defaults.

use super::{fault::usage, progress};
use crate::config;
use anyhow::Result;
use clap::Args;
use engine::{Device, GenerateParams, Pipeline, Size};
use std::path::PathBuf;

#[derive(Args, Clone, Debug)]
pub struct ModelArguments {
    /// Folder of a FLUX.1 model in diffusers layout [default: models/flux-mini]
    #[arg(long, value_name = "DIR", env = "ATELIER_MODEL", hide_env = true)]
    model: Option<PathBuf>,
}

impl ModelArguments {
    /// The folder asked for, or the model that Atelier brings along.
    pub fn folder(&self) -> PathBuf {
        self.model.clone().unwrap_or_else(config::default_model)
    }

    pub fn load(&self) -> Result<Pipeline> {
        let folder = self.folder();
        let line = progress::waiting(&format!("loading {}", folder.display()));
        let pipeline = Pipeline::load(&folder, &Device::Cpu);
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
