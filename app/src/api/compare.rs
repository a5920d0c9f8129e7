//! Base against adapter on the same seeds, open or blind.

use super::picture::{one, usual_guidance};
use super::{AdapterId, ComparisonId, PictureId, Run};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CompareRequest {
    pub prompt: String,
    pub adapter: AdapterId,
    /// Strengths to draw beside the base; at least one.
    pub scales: Vec<f64>,
    #[serde(default)]
    pub width: u32,
    #[serde(default)]
    pub height: u32,
    #[serde(default)]
    pub steps: u32,
    #[serde(default = "usual_guidance")]
    pub guidance: f64,
    pub seed: Option<u64>,
    /// Seeds drawn: seed, seed + 1, …
    #[serde(default = "one")]
    pub count: u32,
}

/// Cells appear as they are drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Comparison {
    pub id: ComparisonId,
    pub request: CompareRequest,
    pub adapter_name: String,
    pub seed: u64,
    pub run: Run,
    pub cells: Vec<ComparisonCell>,
    pub created_at: i64,
}

/// One picture of the grid: scale 0 is the base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ComparisonCell {
    pub seed: u64,
    pub scale: f64,
    pub picture: Option<PictureId>,
}

/// A blind round's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Vote {
    pub comparison: ComparisonId,
    pub seed: u64,
    pub scale: f64,
    /// True when the adapter's picture was preferred; `None` for a tie.
    pub adapter_won: Option<bool>,
}

/// Votes for one adapter, with a 95 % Wilson interval of the win rate (ties count half).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Tally {
    pub wins: u32,
    pub losses: u32,
    pub ties: u32,
    pub win_rate: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
}
