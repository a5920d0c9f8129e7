//! Pictures, and what they are made from.

use super::{AdapterId, AdapterUse, PictureId, RunId};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerateRequest {
    pub prompt: String,
    pub width: u32,
    pub height: u32,
    pub steps: u32,
    pub guidance: f64,
    /// `None`: drawn by the server and recorded.
    pub seed: Option<u64>,
    pub count: u32,
    #[serde(default)]
    pub adapters: Vec<AdapterUse>,
}

/// A finished picture with its whole recipe. Files: `/files/pictures/{id}.png` and `/files/pictures/{id}/thumb`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    pub id: PictureId,
    pub run: RunId,
    pub prompt: String,
    pub width: u32,
    pub height: u32,
    pub steps: u32,
    pub guidance: f64,
    pub seed: u64,
    pub adapters: Vec<AdapterUse>,
    pub model: String,
    /// Wall-clock seconds it took.
    pub seconds: f64,
    pub created_at: i64,
}

impl Picture {
    pub fn url(&self) -> String {
        format!("/files/pictures/{}.png", self.id)
    }

    pub fn thumb_url(&self) -> String {
        format!("/files/pictures/{}/thumb", self.id)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PictureFilter {
    /// Words that the prompt contains.
    pub search: Option<String>,
    pub adapter: Option<AdapterId>,
    /// Only older than this picture: the next page.
    pub before: Option<PictureId>,
    pub limit: u32,
}
