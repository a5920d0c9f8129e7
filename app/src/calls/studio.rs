//! What this instance is, and what it is busy with.

use crate::api::{ApiError, Run, Studio};
use leptos::prelude::*;

#[cfg(feature = "ssr")]
use super::context::api;

#[server(endpoint = "get_studio")]
pub async fn get_studio() -> Result<Studio, ApiError> {
    api().studio().await
}

/// Queued and running jobs, newest first.
#[server(endpoint = "list_active_runs")]
pub async fn list_active_runs() -> Result<Vec<Run>, ApiError> {
    api().runs(true, 10).await
}
