//! `POST /upload/…`: files from a visitor, streamed to a folder of their own, bounded before anything is decoded.

pub mod adapter;
pub mod dataset;
pub mod receive;

use super::AppState;
use super::{error::Refusal, visitor::Visitor};
use app::{
    api::{ApiResult, limits},
    forms::write_pairs,
};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Multipart, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Redirect, Response},
    routing::post,
};
use receive::Received;
use serde::Serialize;

pub fn routes() -> Router<AppState> {
    Router::new().route("/upload/dataset", post(dataset_files)).route("/upload/adapter", post(adapter_file)).layer(limit())
}

/// Of a form with files.
pub fn limit() -> DefaultBodyLimit {
    // The fields around the files take some room too.
    const AROUND: usize = 1 << 20;
    DefaultBodyLimit::max(limits::MAX_UPLOAD_BYTES as usize + AROUND)
}

async fn dataset_files(State(state): State<AppState>, visitor: Visitor, headers: HeaderMap, form: Multipart) -> Response {
    let result = async {
        let owner = visitor.maker()?;
        let received = Received::read(&state.jobs, &owner, form).await?;
        dataset::add(&state, &owner, received).await
    };
    respond(&headers, result.await, |set| format!("/train?dataset={}", set.id), "/train")
}

async fn adapter_file(State(state): State<AppState>, visitor: Visitor, headers: HeaderMap, form: Multipart) -> Response {
    let result = async {
        let owner = visitor.maker()?;
        let received = Received::read(&state.jobs, &owner, form).await?;
        adapter::add(&state, &owner, received).await
    };
    respond(&headers, result.await, |_| "/adapters".to_owned(), "/adapters")
}

/// JSON for programs and live pages, which ask for it; for a plain form the page that shows what came of it.
fn respond<T: Serialize>(headers: &HeaderMap, result: ApiResult<T>, shown_at: impl Fn(&T) -> String, page: &str) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    match (result, accept.contains("application/json")) {
        (Ok(made), true) => Json(made).into_response(),
        (Ok(made), false) => Redirect::to(&shown_at(&made)).into_response(),
        (Err(error), true) => Refusal(error).into_response(),
        (Err(error), false) => Redirect::to(&format!("{page}?{}", write_pairs(&[("error", &error.message)]))).into_response(),
    }
}
