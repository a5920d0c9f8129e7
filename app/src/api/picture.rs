//! Pictures, and what they are made from.

use super::{AdapterId, AdapterUse, PictureId, RunId};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GenerateRequest {
    pub prompt: String,
    /// Pixels, a multiple of 16. A script may leave out what is not the point: the model's own size and steps, guidance 3.5, one picture.
    #[serde(default)]
    pub width: u32,
    #[serde(default)]
    pub height: u32,
    #[serde(default)]
    pub steps: u32,
    #[serde(default = "usual_guidance")]
    pub guidance: f64,
    /// `None`: drawn by the server and recorded.
    pub seed: Option<u64>,
    /// Pictures, with seeds in a row.
    #[serde(default = "one")]
    pub count: u32,
    #[serde(default)]
    pub adapters: Vec<AdapterUse>,
}

pub(super) fn usual_guidance() -> f64 {
    3.5
}

pub(super) fn one() -> u32 {
    1
}

/// A finished picture with its whole recipe. Files: `/files/pictures/{id}.png` and `/files/pictures/{id}/thumb`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams, utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct PictureFilter {
    /// Words that the prompt contains.
    pub search: Option<String>,
    pub adapter: Option<AdapterId>,
    /// Only older than this picture: the next page.
    pub before: Option<PictureId>,
    /// At most so many; 0, as when left out, for a page of them.
    #[serde(default)]
    pub limit: u32,
}
