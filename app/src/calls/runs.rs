//! Jobs: seen, stopped, resumed.

use crate::api::{ApiError, Picture, Run, RunId};
use leptos::prelude::*;
use serde::{Deserialize, Serialize};

#[cfg(feature = "ssr")]
use super::context::{answered, api};

/// A run with its finished pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    pub run: Run,
    pub pictures: Vec<Picture>,
}

#[server(endpoint = "get_run")]
pub async fn get_run(id: RunId) -> Result<RunView, ApiError> {
    let api = api();
    let run = answered(api.run(id).await)?;
    let mut pictures = Vec::with_capacity(run.pictures.len());
    for id in &run.pictures {
        match api.picture(id.clone()).await {
            Ok(picture) => pictures.push(picture),
            // Deleted since.
            Err(error) if error.status == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(RunView { run, pictures })
}

/// Newest first.
#[server(endpoint = "list_runs")]
pub async fn list_runs(active: bool, limit: usize) -> Result<Vec<Run>, ApiError> {
    answered(api().runs(active, limit.min(100)).await)
}

#[server(endpoint = "stop_run")]
pub async fn stop_run(id: RunId) -> Result<(), ApiError> {
    answered(api().stop(id).await)
}

#[server(endpoint = "resume_run")]
pub async fn resume_run(id: RunId) -> Result<(), ApiError> {
    answered(api().resume(id).await)
}
