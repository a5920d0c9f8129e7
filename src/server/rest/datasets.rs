//! Style sets: sent, captioned, pruned.

use super::{
    Caller, Refusal,
    extract::{Body, Named, Sent},
    files::{File, PicturesForm, file},
};
use crate::{
    server::{
        AppState,
        upload::{dataset, receive::Received},
    },
    store::BlobKey,
};
use app::api::{DatasetId, DatasetInfo, SampleSet};
use axum::{Json, extract::State, http::StatusCode, response::Response};
use serde::Deserialize;
use utoipa::ToSchema;

type SetAnswer = Result<Json<DatasetInfo>, Refusal>;

#[derive(Deserialize, ToSchema)]
pub struct SetChange {
    /// Ends every caption from now on; empty for none.
    pub trigger: String,
}

#[derive(Deserialize, ToSchema)]
pub struct CaptionChange {
    pub caption: String,
}

/// Sets that ship with Atelier
#[utoipa::path(get, path = "/sample-sets", tag = "Style sets", responses((status = 200, body = Vec<SampleSet>)))]
pub async fn list_sample_sets(State(state): State<AppState>, caller: Caller) -> Result<Json<Vec<SampleSet>>, Refusal> {
    Ok(Json(caller.api(&state).sample_sets().await?))
}

/// Copy a sample set
///
/// Into a set of your own, to train on or to change.
#[utoipa::path(post, path = "/sample-sets/{name}/copy", tag = "Style sets", params(("name" = String, Path)),
    responses((status = 201, body = DatasetInfo)))]
pub async fn copy_sample_set(
    State(state): State<AppState>,
    caller: Caller,
    Named(name): Named<String>,
) -> Result<(StatusCode, Json<DatasetInfo>), Refusal> {
    let api = caller.api(&state);
    let id = api.use_sample_set(name).await?;
    Ok((StatusCode::CREATED, Json(api.dataset(id).await?)))
}

/// Style sets, newest first
#[utoipa::path(get, path = "/datasets", tag = "Style sets", responses((status = 200, body = Vec<DatasetInfo>)))]
pub async fn list_datasets(State(state): State<AppState>, caller: Caller) -> Result<Json<Vec<DatasetInfo>>, Refusal> {
    Ok(Json(caller.api(&state).datasets().await?))
}

/// Send a style set
#[utoipa::path(post, path = "/datasets", tag = "Style sets", request_body(content = PicturesForm, content_type = "multipart/form-data"),
    responses((status = 201, body = DatasetInfo)))]
pub async fn send_dataset(
    State(state): State<AppState>,
    caller: Caller,
    Sent(form): Sent,
) -> Result<(StatusCode, Json<DatasetInfo>), Refusal> {
    let mut received = Received::read(&state.jobs, &caller.owner(), form).await?;
    received.fields.remove("dataset");
    Ok((StatusCode::CREATED, Json(dataset::add(&state, &caller.owner(), received).await?)))
}

/// A style set
#[utoipa::path(get, path = "/datasets/{dataset}", tag = "Style sets", params(("dataset" = DatasetId, Path)),
    responses((status = 200, body = DatasetInfo)))]
pub async fn show_dataset(State(state): State<AppState>, caller: Caller, Named(id): Named<DatasetId>) -> SetAnswer {
    Ok(Json(caller.api(&state).dataset(id).await?))
}

/// Change a set's trigger phrase
#[utoipa::path(patch, path = "/datasets/{dataset}", tag = "Style sets", params(("dataset" = DatasetId, Path)), request_body = SetChange,
    responses((status = 200, body = DatasetInfo)))]
pub async fn change_dataset(
    State(state): State<AppState>,
    caller: Caller,
    Named(id): Named<DatasetId>,
    Body(change): Body<SetChange>,
) -> SetAnswer {
    let api = caller.api(&state);
    api.set_trigger(id.clone(), change.trigger).await?;
    Ok(Json(api.dataset(id).await?))
}

/// Delete a style set
///
/// Trainings that began with it keep their own copy.
#[utoipa::path(delete, path = "/datasets/{dataset}", tag = "Style sets", params(("dataset" = DatasetId, Path)), responses((status = 204)))]
pub async fn delete_dataset(State(state): State<AppState>, caller: Caller, Named(id): Named<DatasetId>) -> Result<StatusCode, Refusal> {
    caller.api(&state).delete_dataset(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Send more pictures to a set
///
/// Those that it holds already are passed over.
#[utoipa::path(post, path = "/datasets/{dataset}/pictures", tag = "Style sets", params(("dataset" = DatasetId, Path)),
    request_body(content = PicturesForm, content_type = "multipart/form-data"), responses((status = 200, body = DatasetInfo)))]
pub async fn send_more_pictures(State(state): State<AppState>, caller: Caller, Named(id): Named<DatasetId>, Sent(form): Sent) -> SetAnswer {
    let mut received = Received::read(&state.jobs, &caller.owner(), form).await?;
    received.fields.insert("dataset".to_owned(), id.0);
    Ok(Json(dataset::add(&state, &caller.owner(), received).await?))
}

/// A picture of a set
#[utoipa::path(get, path = "/datasets/{dataset}/pictures/{picture}", tag = "Style sets",
    params(("dataset" = DatasetId, Path), ("picture" = String, Path, description = "SHA-256 of the file")),
    responses((status = 200, content_type = "image/*", body = File)))]
pub async fn fetch_dataset_picture(
    State(state): State<AppState>,
    caller: Caller,
    Named((id, picture)): Named<(DatasetId, String)>,
) -> Result<Response, Refusal> {
    let (_, _, extension) = state.jobs.store.item_files(&caller.owner(), &id, &picture).await?;
    let bytes = state.jobs.store.blobs.get(&BlobKey::dataset_item(&id, &picture, &extension)).await?;
    let content_type = crate::server::files::content_type(&extension);
    Ok(file(bytes, content_type, &format!("{picture}.{extension}")))
}

/// Change a caption
#[utoipa::path(patch, path = "/datasets/{dataset}/pictures/{picture}", tag = "Style sets",
    params(("dataset" = DatasetId, Path), ("picture" = String, Path, description = "SHA-256 of the file")), request_body = CaptionChange,
    responses((status = 200, body = DatasetInfo)))]
pub async fn change_caption(
    State(state): State<AppState>,
    caller: Caller,
    Named((id, picture)): Named<(DatasetId, String)>,
    Body(change): Body<CaptionChange>,
) -> SetAnswer {
    let api = caller.api(&state);
    api.set_caption(id.clone(), picture, change.caption).await?;
    Ok(Json(api.dataset(id).await?))
}

/// Remove a picture from a set
#[utoipa::path(delete, path = "/datasets/{dataset}/pictures/{picture}", tag = "Style sets",
    params(("dataset" = DatasetId, Path), ("picture" = String, Path, description = "SHA-256 of the file")), responses((status = 204)))]
pub async fn remove_dataset_picture(
    State(state): State<AppState>,
    caller: Caller,
    Named((id, picture)): Named<(DatasetId, String)>,
) -> Result<StatusCode, Refusal> {
    caller.api(&state).remove_item(id, picture).await?;
    Ok(StatusCode::NO_CONTENT)
}
