//! Adapters: listed, brought along, taken along, renamed, deleted, published.

use super::{
    Caller, Refusal,
    extract::{Asked, Body, Named, Sent},
    files::{AdapterForm, File},
};
use crate::server::{
    AppState, files,
    upload::{adapter, receive::Received},
};
use app::api::{AdapterId, AdapterInfo, PublishRequest, PublishReview, PublishState, Tally};
use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

type AdapterAnswer = Result<Json<AdapterInfo>, Refusal>;

#[derive(Deserialize, ToSchema)]
pub struct NameChange {
    pub name: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Export {
    /// `diffusers`, `kohya` or `comfyui`: under the names that this program reads, compared weight by weight before it is sent.
    #[serde(rename = "for")]
    program: Option<String>,
}

/// What is to be published, as it was reviewed.
#[derive(Deserialize, ToSchema)]
pub struct Publish {
    #[serde(flatten)]
    pub request: PublishRequest,
    /// Of the Hub, with write access; used this once and kept nowhere. The configured one if left out.
    pub hub_token: Option<String>,
}

#[derive(Deserialize, ToSchema)]
pub struct Unpublish {
    /// `OWNER/NAME`
    pub repo: String,
    pub hub_token: Option<String>,
}

/// Adapters, newest first
#[utoipa::path(get, path = "/adapters", tag = "Adapters", responses((status = 200, body = Vec<AdapterInfo>)))]
pub async fn list_adapters(State(state): State<AppState>, caller: Caller) -> Result<Json<Vec<AdapterInfo>>, Refusal> {
    Ok(Json(caller.api(&state).adapters().await?))
}

/// Bring an adapter along
///
/// It is tried on the model first; one of which nothing fits is refused.
#[utoipa::path(post, path = "/adapters", tag = "Adapters", request_body(content = AdapterForm, content_type = "multipart/form-data"),
    responses((status = 201, body = AdapterInfo)))]
pub async fn send_adapter(
    State(state): State<AppState>,
    caller: Caller,
    Sent(form): Sent,
) -> Result<(StatusCode, Json<AdapterInfo>), Refusal> {
    let received = Received::read(&state.jobs, &caller.owner(), form).await?;
    Ok((StatusCode::CREATED, Json(adapter::add(&state, &caller.owner(), received).await?)))
}

/// An adapter
#[utoipa::path(get, path = "/adapters/{adapter}", tag = "Adapters", params(("adapter" = AdapterId, Path)),
    responses((status = 200, body = AdapterInfo)))]
pub async fn show_adapter(State(state): State<AppState>, caller: Caller, Named(id): Named<AdapterId>) -> AdapterAnswer {
    Ok(Json(caller.api(&state).adapter(id).await?))
}

/// Rename an adapter
#[utoipa::path(patch, path = "/adapters/{adapter}", tag = "Adapters", params(("adapter" = AdapterId, Path)), request_body = NameChange,
    responses((status = 200, body = AdapterInfo)))]
pub async fn rename_adapter(
    State(state): State<AppState>,
    caller: Caller,
    Named(id): Named<AdapterId>,
    Body(change): Body<NameChange>,
) -> AdapterAnswer {
    let api = caller.api(&state);
    api.rename_adapter(id.clone(), change.name).await?;
    Ok(Json(api.adapter(id).await?))
}

/// Delete an adapter
#[utoipa::path(delete, path = "/adapters/{adapter}", tag = "Adapters", params(("adapter" = AdapterId, Path)), responses((status = 204)))]
pub async fn delete_adapter(State(state): State<AppState>, caller: Caller, Named(id): Named<AdapterId>) -> Result<StatusCode, Refusal> {
    caller.api(&state).delete_adapter(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An adapter's weights
///
/// The .safetensors file as it was trained here or brought along, or written for a program; while it is trained, that of its newest
/// checkpoint.
#[utoipa::path(get, path = "/adapters/{adapter}/weights", tag = "Adapters", params(("adapter" = AdapterId, Path), Export),
    responses((status = 200, content_type = "application/octet-stream", body = File)))]
pub async fn fetch_weights(
    State(state): State<AppState>,
    caller: Caller,
    Named(id): Named<AdapterId>,
    Asked(Export { program }): Asked<Export>,
) -> Result<Response, Refusal> {
    let found = state.jobs.store.adapter_file(&caller.owner(), &id).await?;
    files::weights(&state, found, program.as_deref()).await
}

/// How an adapter was made
///
/// adapter.json: recipe, style set, versions.
#[utoipa::path(get, path = "/adapters/{adapter}/recipe", tag = "Adapters", params(("adapter" = AdapterId, Path)),
    responses((status = 200, body = serde_json::Value)))]
pub async fn show_adapter_recipe(State(state): State<AppState>, caller: Caller, Named(id): Named<AdapterId>) -> Result<Response, Refusal> {
    let recipe = state.jobs.store.adapter_recipe(&caller.owner(), &id).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], recipe).into_response())
}

/// Votes for an adapter
///
/// Of blind rounds against the base model, with a 95 % interval.
#[utoipa::path(get, path = "/adapters/{adapter}/tally", tag = "Adapters", params(("adapter" = AdapterId, Path)), responses((status = 200, body = Tally)))]
pub async fn show_tally(State(state): State<AppState>, caller: Caller, Named(id): Named<AdapterId>) -> Result<Json<Tally>, Refusal> {
    let api = caller.api(&state);
    api.adapter(id.clone()).await?;
    Ok(Json(api.tally(id).await?))
}

/// What would be published
///
/// A proposal with its card; change its `request` and publish that. Nothing is asked of the Hub.
#[utoipa::path(get, path = "/adapters/{adapter}/publication", tag = "Adapters", params(("adapter" = AdapterId, Path)),
    responses((status = 200, body = PublishReview)))]
pub async fn review_publication(
    State(state): State<AppState>,
    caller: Caller,
    Named(id): Named<AdapterId>,
) -> Result<Json<PublishReview>, Refusal> {
    Ok(Json(caller.api(&state).review_publication(id, None).await?))
}

/// Publish an adapter
#[utoipa::path(post, path = "/adapters/{adapter}/publication", tag = "Adapters", params(("adapter" = AdapterId, Path)), request_body = Publish,
    responses((status = 202, description = "It began", body = PublishState)))]
pub async fn publish_adapter(
    State(state): State<AppState>,
    caller: Caller,
    Named(id): Named<AdapterId>,
    Body(Publish { request, hub_token }): Body<Publish>,
) -> Result<(StatusCode, Json<PublishState>), Refusal> {
    let api = caller.api(&state);
    api.publish(id.clone(), request, hub_token).await?;
    Ok((StatusCode::ACCEPTED, Json(api.publish_state(id).await?.unwrap_or_default())))
}

/// How far a publication is
#[utoipa::path(get, path = "/adapters/{adapter}/publication/state", tag = "Adapters", params(("adapter" = AdapterId, Path)),
    responses((status = 200, description = "null where none was begun", body = Option<PublishState>)))]
pub async fn show_publication(
    State(state): State<AppState>,
    caller: Caller,
    Named(id): Named<AdapterId>,
) -> Result<Json<Option<PublishState>>, Refusal> {
    Ok(Json(caller.api(&state).publish_state(id).await?))
}

/// Take an adapter off the Hub
#[utoipa::path(delete, path = "/adapters/{adapter}/publication", tag = "Adapters", params(("adapter" = AdapterId, Path)), request_body = Unpublish,
    responses((status = 204)))]
pub async fn unpublish_adapter(
    State(state): State<AppState>,
    caller: Caller,
    Named(id): Named<AdapterId>,
    Body(Unpublish { repo, hub_token }): Body<Unpublish>,
) -> Result<StatusCode, Refusal> {
    caller.api(&state).unpublish(id, repo, hub_token).await?;
    Ok(StatusCode::NO_CONTENT)
}
