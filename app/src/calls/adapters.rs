//! Adapters: listed, renamed, deleted.

use crate::api::{AdapterId, AdapterInfo, ApiError};
use leptos::prelude::*;

#[cfg(feature = "ssr")]
use super::context::{answered, api};

/// Newest first.
#[server(endpoint = "list_adapters")]
pub async fn list_adapters() -> Result<Vec<AdapterInfo>, ApiError> {
    answered(api().adapters().await)
}

#[server(endpoint = "rename_adapter")]
pub async fn rename_adapter(id: AdapterId, name: String) -> Result<(), ApiError> {
    answered(api().rename_adapter(id, name.trim().to_owned()).await)
}

#[server(endpoint = "delete_adapter")]
pub async fn delete_adapter(id: AdapterId) -> Result<(), ApiError> {
    answered(api().delete_adapter(id).await)
}
