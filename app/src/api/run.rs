//! A job as the pages see it.

use super::{ComparisonId, PictureId, RunId};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum RunKind {
    Generate,
    Compare,
    Train,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    Queued,
    Running,
    Done,
    Failed,
    /// By the visitor; a training can be resumed.
    Stopped,
}

impl RunState {
    pub fn is_active(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Run {
    pub id: RunId,
    pub kind: RunKind,
    pub state: RunState,
    /// The prompt, or the adapter's name.
    pub title: String,
    pub progress: Progress,
    /// Why it failed, in a sentence.
    pub error: Option<String>,
    /// Finished pictures so far.
    pub pictures: Vec<PictureId>,
    pub comparison: Option<ComparisonId>,
    /// Seconds since 1970.
    pub created_at: i64,
    pub finished_at: Option<i64>,
}

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Progress {
    /// Such as `waiting`, `encoding pictures`, `training`, `drawing`.
    pub phase: String,
    pub done: u32,
    pub total: u32,
    pub elapsed_s: f64,
    /// `None` while too little is known.
    pub remaining_s: Option<f64>,
}
