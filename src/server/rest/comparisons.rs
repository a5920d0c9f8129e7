//! Comparisons: base against adapter on the same seeds, and votes on them.

use super::{
    Caller, Refusal, defaults,
    extract::{Asked, Body, Named},
};
use crate::server::AppState;
use app::api::{CompareRequest, Comparison, ComparisonId, Tally, Vote};
use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Listed {
    /// At most so many; 50 if left out.
    limit: Option<usize>,
}

/// An opinion on the base's picture and the adapter's of one seed and strength.
#[derive(Deserialize, ToSchema)]
pub struct Opinion {
    pub seed: u64,
    pub scale: f64,
    /// Whether the adapter's picture is preferred; `null` for a tie.
    pub adapter_won: Option<bool>,
}

/// Draw a comparison
///
/// Its cells fill as they are drawn; `run` can be waited for and watched.
#[utoipa::path(post, path = "/comparisons", tag = "Comparisons", request_body = CompareRequest, responses((status = 202, body = Comparison)))]
pub async fn draw_comparison(
    State(state): State<AppState>,
    caller: Caller,
    Body(request): Body<CompareRequest>,
) -> Result<(StatusCode, Json<Comparison>), Refusal> {
    let api = caller.api(&state);
    let id = api.compare(defaults::compare(&state, request).await?).await?;
    Ok((StatusCode::ACCEPTED, Json(api.comparison(id).await?)))
}

/// Comparisons, newest first
#[utoipa::path(get, path = "/comparisons", tag = "Comparisons", params(Listed), responses((status = 200, body = Vec<Comparison>)))]
pub async fn list_comparisons(
    State(state): State<AppState>,
    caller: Caller,
    Asked(Listed { limit }): Asked<Listed>,
) -> Result<Json<Vec<Comparison>>, Refusal> {
    Ok(Json(caller.api(&state).comparisons(limit.unwrap_or(50)).await?))
}

/// A comparison
#[utoipa::path(get, path = "/comparisons/{comparison}", tag = "Comparisons", params(("comparison" = ComparisonId, Path)),
    responses((status = 200, body = Comparison)))]
pub async fn show_comparison(
    State(state): State<AppState>,
    caller: Caller,
    Named(id): Named<ComparisonId>,
) -> Result<Json<Comparison>, Refusal> {
    Ok(Json(caller.api(&state).comparison(id).await?))
}

/// Vote on a pair
///
/// Voting again changes the vote. The answer counts all votes for the adapter.
#[utoipa::path(post, path = "/comparisons/{comparison}/votes", tag = "Comparisons", params(("comparison" = ComparisonId, Path)),
    request_body = Opinion, responses((status = 200, body = Tally)))]
pub async fn vote(
    State(state): State<AppState>,
    caller: Caller,
    Named(comparison): Named<ComparisonId>,
    Body(Opinion { seed, scale, adapter_won }): Body<Opinion>,
) -> Result<Json<Tally>, Refusal> {
    Ok(Json(caller.api(&state).vote(Vote { comparison, seed, scale, adapter_won }).await?))
}
