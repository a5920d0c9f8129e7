//! Adapters: what exists and how strongly it is used.

use super::{AdapterId, DatasetId, RunId};
use serde::{Deserialize, Serialize};

/// An adapter in a picture's recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AdapterUse {
    pub id: AdapterId,
    /// The name it had when it was used; filled in by the server.
    #[serde(default)]
    pub name: String,
    pub scale: f64,
}

/// File: `/files/adapters/{id}.safetensors`; the recipe as `/files/adapters/{id}.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AdapterInfo {
    pub id: AdapterId,
    pub name: String,
    pub trigger: Option<String>,
    pub rank: u32,
    pub alpha: f64,
    pub steps: u32,
    pub loss: Option<f64>,
    pub bytes: u64,
    /// Still being trained: usable at its newest checkpoint.
    pub training: bool,
    /// The training it came from; `None` when it was uploaded.
    pub run: Option<RunId>,
    pub dataset: Option<DatasetId>,
    /// Sample pictures of the last checkpoint.
    pub sample_urls: Vec<String>,
    pub base_model: String,
    pub created_at: i64,
}
