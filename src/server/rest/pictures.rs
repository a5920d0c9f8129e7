//! Pictures: asked for, listed, fetched, deleted.

use super::{
    Caller, Refusal, defaults,
    extract::{Asked, Body, Named},
    files::{File, file},
    runs::{RunAnswer, Wait, awaited},
};
use crate::{server::AppState, store::BlobKey};
use app::api::{GenerateRequest, Picture, PictureFilter, PictureId, Run};
use axum::{Json, extract::State, http::StatusCode, response::Response};

/// Draw pictures
///
/// Queues a run. Its `pictures` are the ids of those that are done.
#[utoipa::path(post, path = "/pictures", tag = "Pictures", params(Wait), request_body = GenerateRequest,
    responses((status = 200, description = "They are done", body = Run), (status = 202, description = "They wait or are being drawn", body = Run)))]
pub async fn draw_pictures(
    State(state): State<AppState>,
    caller: Caller,
    Asked(wait): Asked<Wait>,
    Body(request): Body<GenerateRequest>,
) -> RunAnswer {
    let request = defaults::generate(&state, request).await?;
    let run = caller.api(&state).generate(request).await?;
    awaited(&state, &caller, run, wait).await
}

/// Pictures, newest first
#[utoipa::path(get, path = "/pictures", tag = "Pictures", params(PictureFilter), responses((status = 200, body = Vec<Picture>)))]
pub async fn list_pictures(
    State(state): State<AppState>,
    caller: Caller,
    Asked(filter): Asked<PictureFilter>,
) -> Result<Json<Vec<Picture>>, Refusal> {
    Ok(Json(caller.api(&state).pictures(filter).await?))
}

/// A picture's recipe
#[utoipa::path(get, path = "/pictures/{picture}", tag = "Pictures", params(("picture" = PictureId, Path)), responses((status = 200, body = Picture)))]
pub async fn show_picture(State(state): State<AppState>, caller: Caller, Named(id): Named<PictureId>) -> Result<Json<Picture>, Refusal> {
    Ok(Json(caller.api(&state).picture(id).await?))
}

/// The picture itself
///
/// A PNG that carries its recipe.
#[utoipa::path(get, path = "/pictures/{picture}/image", tag = "Pictures", params(("picture" = PictureId, Path)),
    responses((status = 200, content_type = "image/png", body = File)))]
pub async fn fetch_picture(State(state): State<AppState>, caller: Caller, Named(id): Named<PictureId>) -> Result<Response, Refusal> {
    caller.api(&state).picture(id.clone()).await?;
    let bytes = state.jobs.store.blobs.get(&BlobKey::picture(&id)).await?;
    Ok(file(bytes, "image/png", &format!("{id}.png")))
}

/// Delete a picture
#[utoipa::path(delete, path = "/pictures/{picture}", tag = "Pictures", params(("picture" = PictureId, Path)), responses((status = 204)))]
pub async fn delete_picture(State(state): State<AppState>, caller: Caller, Named(id): Named<PictureId>) -> Result<StatusCode, Refusal> {
    caller.api(&state).delete_picture(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
