//! What this instance is.

use super::{Caller, Refusal};
use crate::server::AppState;
use app::api::Studio;
use axum::{Json, extract::State};

/// What this studio is
///
/// Model, device, the sizes it draws best, and whether the model is loaded.
#[utoipa::path(get, path = "/studio", tag = "Studio", responses((status = 200, body = Studio)))]
pub async fn show_studio(State(state): State<AppState>, caller: Caller) -> Result<Json<Studio>, Refusal> {
    Ok(Json(caller.api(&state).studio().await?))
}
