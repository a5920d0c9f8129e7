//! `GET /files/…`: pictures, style sets, adapters, samples. A file is looked up by its row; no path comes from outside.

use super::{AppState, error::Refusal, visitor::Visitor};
use crate::store::{BlobKey, Error, adapters::AdapterFile};
use app::api::{AdapterId, DatasetId, PictureId, RunId};
use axum::{
    Router,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use std::collections::HashMap;
use tokio::fs::File;
use tokio_util::io::ReaderStream;

type Answer = Result<Response, Refusal>;

pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/files/pictures/{picture}", get(picture))
        .route("/files/pictures/{picture}/thumb", get(picture_thumb))
        .route("/files/datasets/{dataset}/{item}", get(item))
        .route("/files/datasets/{dataset}/{item}/thumb", get(item_thumb))
        .route("/files/adapters/{adapter}", get(adapter))
        .route("/files/runs/{run}/samples/{sample}", get(sample))
}

/// `{id}.png`; with `?download` under a name that says what it shows.
async fn picture(
    State(state): State<AppState>,
    visitor: Visitor,
    Path(file): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let id: PictureId = stem(&file, ".png")?.into();
    let picture = state.jobs.store.picture(&visitor.owner(), &id).await?;
    let bytes = state.jobs.store.blobs.get(&BlobKey::picture(&id)).await?;
    let name = query.contains_key("download").then(|| format!("{}-{}.png", file_name(&picture.prompt), picture.seed));
    Ok(lasting(bytes, "image/png", name))
}

async fn picture_thumb(State(state): State<AppState>, visitor: Visitor, Path(id): Path<PictureId>) -> Answer {
    state.jobs.store.picture(&visitor.owner(), &id).await?;
    Ok(lasting(state.jobs.store.blobs.get(&BlobKey::picture_thumb(&id)).await?, "image/jpeg", None))
}

async fn item(State(state): State<AppState>, visitor: Visitor, Path((dataset, item)): Path<(DatasetId, String)>) -> Answer {
    let (key, _, extension) = state.jobs.store.item_files(&visitor.owner(), &dataset, &item).await?;
    Ok(lasting(state.jobs.store.blobs.get(&key).await?, content_type(&extension), None))
}

async fn item_thumb(State(state): State<AppState>, visitor: Visitor, Path((dataset, item)): Path<(DatasetId, String)>) -> Answer {
    let (_, thumb, _) = state.jobs.store.item_files(&visitor.owner(), &dataset, &item).await?;
    Ok(lasting(state.jobs.store.blobs.get(&thumb).await?, "image/jpeg", None))
}

/// `{id}.safetensors` to take along, with `?for=kohya` in another program's layout; `{id}.json` for where it comes from.
async fn adapter(
    State(state): State<AppState>,
    visitor: Visitor,
    Path(file): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let (store, owner) = (&state.jobs.store, visitor.owner());
    if let Some(id) = file.strip_suffix(".json") {
        let recipe = store.adapter_recipe(&owner, &AdapterId::from(id.to_owned())).await?;
        return Ok(changing(recipe.into_bytes(), "application/json", None));
    }
    let id: AdapterId = stem(&file, ".safetensors")?.into();
    let found = store.adapter_file(&owner, &id).await?;
    weights(&state, found, query.get("for").map(String::as_str)).await
}

/// An adapter's file as it is, or written for a program; streamed, whatever its size.
pub(super) async fn weights(state: &AppState, found: AdapterFile, program: Option<&str>) -> Answer {
    let suffix = program.map(|program| format!("-{program}")).unwrap_or_default();
    let name = format!("{}{suffix}.safetensors", file_name(&found.name));
    let file = match program {
        Some(program) => File::from_std(state.jobs.export(found, program).await?),
        None => File::open(&found.path).await.map_err(Error::from)?,
    };
    let length = file.metadata().await.map_err(Error::from)?.len();
    let mut response = answer(Body::from_stream(ReaderStream::new(file)), "application/octet-stream", "no-cache", Some(name));
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    Ok(response)
}

async fn sample(State(state): State<AppState>, visitor: Visitor, Path((run, sample)): Path<(RunId, String)>) -> Answer {
    let path = state.jobs.store.sample_file(&visitor.owner(), &run, &sample).await?;
    let bytes = tokio::fs::read(path).await.map_err(Error::from)?;
    Ok(lasting(bytes, "image/png", None))
}

fn stem(file: &str, extension: &str) -> Result<String, Refusal> {
    Ok(file.strip_suffix(extension).ok_or_else(|| Error::not_found("file", file))?.to_owned())
}

pub(super) fn content_type(extension: &str) -> &'static str {
    match extension {
        "png" => "image/png",
        "webp" => "image/webp",
        _ => "image/jpeg",
    }
}

/// What never changes under its name.
fn lasting(bytes: Vec<u8>, content_type: &'static str, name: Option<String>) -> Response {
    answer(bytes, content_type, "private, max-age=31536000, immutable", name)
}

fn changing(bytes: Vec<u8>, content_type: &'static str, name: Option<String>) -> Response {
    answer(bytes, content_type, "no-cache", name)
}

pub(super) fn answer(body: impl Into<Body>, content_type: &'static str, cache: &'static str, name: Option<String>) -> Response {
    let mut response = ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, cache)], body.into()).into_response();
    // Letters, digits and dashes: nothing that a header could not hold.
    if let Some(disposition) = name.and_then(|name| HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")).ok()) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
    }
    response
}

/// The first words of a text as a file name.
fn file_name(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' }).collect();
    let words = plain.split_whitespace().take(8).collect::<Vec<_>>().join("-");
    if words.is_empty() { "atelier".into() } else { words.chars().take(60).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_harmless() {
        assert_eq!(file_name("A lake — \"dusk\"\r\n../x"), "a-lake-dusk-x");
        assert_eq!(file_name("夕暮れ"), "atelier");
    }
}
