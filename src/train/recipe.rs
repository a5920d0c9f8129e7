//! A training recipe: every choice with its default, its limits and its reason. Read from TOML, written beside the adapter.

use crate::Result;
use engine::Size;
use serde::{Deserialize, Serialize};
use std::path::Path;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    pub name: String,
    pub rank: usize,
    pub alpha: f64,
    /// Preset (`attention`, `attention+context`, `all-linear`, `blocks:0,1,single.3` …) or a regular expression over module paths.
    pub targets: String,
    pub steps: usize,
    pub learning_rate: f64,
    pub schedule: Schedule,
    pub warmup_steps: usize,
    pub batch_size: usize,
    /// Micro-batches per optimiser step.
    pub accumulate: usize,
    pub max_grad_norm: f64,
    pub optimizer: OptimizerKind,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
    /// Share of items trained with an empty caption, 0 to 1.
    pub caption_dropout: f64,
    pub timestep_sampling: TimestepSampling,
    pub weighting: Weighting,
    /// Guidance value given to the model in training; 1 for guidance-distilled models.
    pub guidance: f64,
    pub resolution: Size,
    /// Several aspect ratios of about `resolution`'s area; false crops everything to `resolution`.
    pub buckets: bool,
    pub flip: bool,
    pub max_sequence_length: usize,
    pub seed: u64,
    /// Optimiser steps between checkpoints; 0 means only at the end.
    pub checkpoint_every: usize,
    pub sample_prompts: Vec<String>,
    pub gradient_checkpointing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    Constant,
    Cosine,
    Linear,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OptimizerKind {
    #[serde(rename = "adamw")]
    AdamW,
    #[serde(rename = "adamw8bit")]
    AdamW8bit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSampling {
    None,
    LogitNormal,
    Mode,
    Shifted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    None,
    SigmaSqrt,
    Cosmap,
}

impl Default for Recipe {
    fn default() -> Self {
        todo!()
    }
}

impl Recipe {
    /// Names of the built-in recipes with one line each on what they are for.
    pub const NAMES: &[(&str, &str)] = &[];

    /// A built-in recipe by name, or a TOML file.
    pub fn load(name_or_file: &str) -> Result<Self> {
        todo!()
    }

    /// Refuses every value outside its limits, with a sentence that names the limit.
    pub fn check(&self) -> Result<()> {
        todo!()
    }
}
