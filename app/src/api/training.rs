//! Fine-tuning: recipes, predictions, and a run in detail.

use super::{AdapterId, DatasetId, Run};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrainRequest {
    pub dataset: DatasetId,
    /// Name of the adapter to be.
    pub name: String,
    /// A built-in recipe's name.
    pub recipe: String,
    /// What the visitor changed in it.
    #[serde(default)]
    pub settings: RecipeSettings,
}

/// Changes to a recipe; `None` keeps its value. Names and limits are those of the recipe file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RecipeSettings {
    pub steps: Option<u32>,
    pub rank: Option<u32>,
    pub alpha: Option<f64>,
    pub learning_rate: Option<f64>,
    /// `constant`, `cosine`, `linear`
    pub schedule: Option<String>,
    pub warmup_steps: Option<u32>,
    pub batch_size: Option<u32>,
    pub accumulate: Option<u32>,
    pub targets: Option<String>,
    /// `adamw`, `adamw8bit`
    pub optimizer: Option<String>,
    /// `none`, `logit_normal`, `mode`, `shifted`
    pub timestep_sampling: Option<String>,
    pub weighting: Option<String>,
    pub guidance: Option<f64>,
    pub caption_dropout: Option<f64>,
    /// `WxH`
    pub resolution: Option<String>,
    pub buckets: Option<bool>,
    pub flip: Option<bool>,
    pub seed: Option<u64>,
    pub checkpoint_every: Option<u32>,
    pub sample_prompts: Option<Vec<String>>,
    /// `auto`, `none`, `smart`, `full`
    #[serde(deserialize_with = "policy")]
    pub gradient_checkpointing: Option<String>,
}

/// Runs from before there was a choice have stored `true` for `full` and `false` for `none`.
fn policy<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Flag(bool),
        Name(String),
    }
    Ok(Option::<Stored>::deserialize(deserializer)?.map(|stored| match stored {
        Stored::Flag(true) => "full".to_owned(),
        Stored::Flag(false) => "none".to_owned(),
        Stored::Name(name) => name,
    }))
}

/// A built-in recipe with all its values filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RecipeInfo {
    pub name: String,
    pub title: String,
    pub description: String,
    pub settings: RecipeSettings,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Prediction {
    pub seconds: f64,
    pub peak_mib: f64,
    /// What would be refused, or is unwise, in sentences.
    pub warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LossPoint {
    pub step: u32,
    pub loss: f64,
    pub learning_rate: f64,
    pub gradient_norm: f64,
}

/// A sample picture drawn at a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Sample {
    pub step: u32,
    pub prompt: String,
    pub url: String,
}

/// A training with everything to draw its page: survives reload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrainingDetail {
    pub run: Run,
    pub request: TrainRequest,
    pub dataset_name: String,
    pub losses: Vec<LossPoint>,
    pub samples: Vec<Sample>,
    pub last_checkpoint: Option<u32>,
    /// The adapter as it is now: at a checkpoint, or finished.
    pub adapter: Option<AdapterId>,
}
