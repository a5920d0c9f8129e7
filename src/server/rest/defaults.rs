//! What a request leaves out: the model's own size and steps.

use crate::{
    jobs::{self, resident::Facts},
    server::AppState,
};
use app::api::{ApiResult, CompareRequest, GenerateRequest};
use std::sync::Arc;

pub async fn generate(state: &AppState, request: GenerateRequest) -> ApiResult<GenerateRequest> {
    let GenerateRequest { width, height, steps, .. } = request;
    let (width, height, steps) = filled(state, width, height, steps).await?;
    Ok(GenerateRequest { width, height, steps, ..request })
}

pub async fn compare(state: &AppState, request: CompareRequest) -> ApiResult<CompareRequest> {
    let CompareRequest { width, height, steps, .. } = request;
    let (width, height, steps) = filled(state, width, height, steps).await?;
    Ok(CompareRequest { width, height, steps, ..request })
}

/// The model, as soon as it is loaded.
pub async fn facts(state: &AppState) -> ApiResult<Arc<Facts>> {
    Ok(state.jobs.device.facts().await.map_err(|error| jobs::Error::Unavailable(error.to_string()))?)
}

/// 0 is left out. A size is left out as a whole.
async fn filled(state: &AppState, width: u32, height: u32, steps: u32) -> ApiResult<(u32, u32, u32)> {
    if (width, height) != (0, 0) && steps != 0 {
        return Ok((width, height, steps));
    }
    let facts = facts(state).await?;
    let usual = facts.sizes().first().map_or((width, height), |(_, width, height)| (*width, *height));
    let (width, height) = if (width, height) == (0, 0) { usual } else { (width, height) };
    Ok((width, height, if steps == 0 { facts.default_steps() } else { steps }))
}
