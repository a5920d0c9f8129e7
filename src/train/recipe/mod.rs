//! A training recipe: every choice with its default, its limits and its reason. Read from TOML, written beside the adapter.

mod limits;
mod policy;
pub mod presets;
pub mod targets;

pub use policy::Policy;

use crate::{Error, Result};
use engine::Size;
use serde::{Deserialize, Serialize};
use std::path::Path;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    pub name: String,
    pub rank: usize,
    pub alpha: f64,
    /// Preset (`attention`, `attention+context`, `all-linear`), blocks (`blocks:double.0,single.2-5`), names (`to_q,to_k`)
    /// or a regular expression over whole module paths; see [`targets`].
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
    /// Mean and deviation of `logit_normal`.
    pub logit_mean: f64,
    pub logit_std: f64,
    /// Scale of `mode`.
    pub mode_scale: f64,
    pub weighting: Weighting,
    /// Guidance value given to the model in training; 1 for guidance-distilled models.
    pub guidance: f64,
    pub resolution: Size,
    /// Several aspect ratios of about `resolution`'s area; false crops everything to `resolution`.
    pub buckets: bool,
    /// A place of the crop drawn for each picture instead of the middle.
    pub random_crop: bool,
    /// Half of the micro-batches see a picture mirrored.
    pub flip: bool,
    pub max_sequence_length: usize,
    pub seed: u64,
    /// Optimiser steps between checkpoints; 0 means only at the end.
    pub checkpoint_every: usize,
    /// Checkpoints that stay on disk; older ones are deleted.
    pub keep_checkpoints: usize,
    pub sample_prompts: Vec<String>,
    pub sample_steps: usize,
    pub sample_guidance: f64,
    /// `auto`, `none`, `smart` or `full`.
    pub gradient_checkpointing: Policy,
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

/// How the noise level of a training example is drawn (`compute_density_for_timestep_sampling` of diffusers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSampling {
    /// Every level alike.
    None,
    /// The middle levels more often.
    LogitNormal,
    /// More of the high levels, or fewer, by `mode_scale`.
    Mode,
    /// Uniform, then shifted for the picture's size as sampling shifts it: more of the levels that decide composition.
    Shifted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    None,
    SigmaSqrt,
    Cosmap,
}

/// Tried with flux-mini on both sample sets, 200 steps: rank 16 on every layer at a rate of 1e-3 takes on frame, contour and palette,
/// where attention alone takes on colour and texture; the cosine's slow end leaves cleaner lines than a constant rate.
impl Default for Recipe {
    fn default() -> Self {
        Self {
            name: "custom".into(),
            rank: 16,
            alpha: 16.0,
            targets: "all-linear".into(),
            steps: 200,
            learning_rate: 1e-3,
            schedule: Schedule::Cosine,
            warmup_steps: 0,
            batch_size: 1,
            accumulate: 1,
            max_grad_norm: 1.0,
            optimizer: OptimizerKind::AdamW,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 1e-4,
            caption_dropout: 0.0,
            timestep_sampling: TimestepSampling::None,
            logit_mean: 0.0,
            logit_std: 1.0,
            mode_scale: 1.29,
            weighting: Weighting::None,
            guidance: 1.0,
            resolution: presets::square(256),
            buckets: true,
            random_crop: false,
            flip: false,
            max_sequence_length: 128,
            seed: 0,
            checkpoint_every: 50,
            keep_checkpoints: 2,
            sample_prompts: Vec::new(),
            sample_steps: 20,
            sample_guidance: 3.5,
            gradient_checkpointing: Policy::Auto,
        }
    }
}

impl Recipe {
    /// Names of the built-in recipes with one line each on what they are for.
    pub const NAMES: &[(&str, &str)] = presets::NAMES;

    /// A built-in recipe by name (with the values for small models such as flux-mini), or a TOML file.
    pub fn load(name_or_file: &str) -> Result<Self> {
        match presets::small(name_or_file) {
            Some(recipe) => Ok(recipe),
            None => Self::from_file(name_or_file),
        }
    }

    /// The same, where a built-in recipe takes the values for the model at hand; a file is taken as it is written.
    pub fn load_for(name_or_file: &str, model: &engine::transformer::Config) -> Result<Self> {
        match presets::for_model(name_or_file, model) {
            Some(recipe) => Ok(recipe),
            None => Self::from_file(name_or_file),
        }
    }

    /// Reads and checks TOML; what is absent takes its default.
    pub fn from_toml(text: &str) -> Result<Self> {
        let recipe: Self = toml::from_str(text).map_err(|error| Error::Recipe(on_its_line(text, &error)))?;
        recipe.check()?;
        Ok(recipe)
    }

    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a recipe is plain values")
    }

    /// Refuses every value outside its limits, with a sentence that names the limit.
    pub fn check(&self) -> Result<()> {
        limits::check(self)
    }

    fn from_file(path: &str) -> Result<Self> {
        let path = Path::new(path);
        if !path.is_file() {
            let names = presets::NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            return Err(Error::Recipe(format!("there is no recipe {}; use {names} or a TOML file", path.display())));
        }
        let text = std::fs::read_to_string(path).map_err(|error| Error::Recipe(format!("{}: {error}", path.display())))?;
        Self::from_toml(&text).map_err(|error| Error::Recipe(format!("{}: {error}", path.display())))
    }
}

/// What is wrong, in one line, with the line of the file where it is.
fn on_its_line(text: &str, error: &toml::de::Error) -> String {
    let number = error.span().map(|span| text[..span.start].matches('\n').count());
    let line = number.and_then(|number| text.lines().nth(number).map(|line| format!("line {} (`{}`): ", number + 1, line.trim())));
    line.unwrap_or_default() + error.message().trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_round_trip_and_defaults() {
        let recipe = Recipe { sample_prompts: vec!["a \"lake\"\nat dusk".into()], ..Recipe::default() };
        assert_eq!(Recipe::from_toml(&recipe.to_toml()).unwrap(), recipe);
        let short = Recipe::from_toml("rank = 4\nalpha = 4.0\nresolution = \"192x288\"").unwrap();
        assert_eq!((short.rank, short.steps, short.resolution.to_string().as_str()), (4, 200, "192x288"));
    }

    #[test]
    fn an_unknown_field_or_recipe_is_named() {
        let misspelt = Recipe::from_toml("rank = 4\nlearning_rat = 1.0").unwrap_err().to_string();
        assert!(misspelt.contains("line 2 (`learning_rat = 1.0`): unknown field `learning_rat`") && !misspelt.contains('\n'), "{misspelt}");
        assert!(Recipe::load("no-such-recipe").unwrap_err().to_string().contains("quick"));
    }
}
