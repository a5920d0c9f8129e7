//! Style sets: pictures with captions.

use super::DatasetId;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DatasetInfo {
    pub id: DatasetId,
    pub name: String,
    pub trigger: Option<String>,
    pub items: Vec<DatasetItem>,
    pub created_at: i64,
}

/// Picture: `/files/datasets/{dataset}/{item}` (a bounded preview of it: `…/{item}/thumb`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DatasetItem {
    /// SHA-256 of the file, hex: items are named by content.
    pub id: String,
    pub file_name: String,
    pub caption: String,
    pub width: u32,
    pub height: u32,
}

/// A set that ships with Atelier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SampleSet {
    /// Folder name, such as `mucha`.
    pub name: String,
    pub title: String,
    pub description: String,
    pub trigger: String,
    pub pictures: u32,
    /// A few of its pictures, static files.
    pub preview_urls: Vec<String>,
    /// The recipe that suits it.
    pub recipe: String,
}
