//! `POST /upload/…`: files from a visitor, streamed to a folder of their own, bounded before anything is decoded.

mod adapter;
pub mod import;
mod receive;

use super::AppState;
use super::error::Refusal;
use app::api::{ApiResult, limits};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Multipart, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::post,
};
use receive::Received;
use serde::Serialize;

pub fn routes() -> Router<AppState> {
    // The fields around the files take some room too.
    const AROUND: usize = 1 << 20;
    let limit = DefaultBodyLimit::max(limits::MAX_UPLOAD_BYTES as usize + AROUND);
    Router::new().route("/upload/dataset", post(dataset)).route("/upload/adapter", post(adapter_file)).layer(limit)
}

async fn dataset(State(state): State<AppState>, headers: HeaderMap, form: Multipart) -> Response {
    let result = async {
        let received = Received::read(&state.jobs.store, form).await?;
        import::dataset(&state, received).await
    };
    respond(&headers, result.await, |set| format!("/train?dataset={}", set.id), "/train")
}

async fn adapter_file(State(state): State<AppState>, headers: HeaderMap, form: Multipart) -> Response {
    let result = async {
        let received = Received::read(&state.jobs.store, form).await?;
        adapter::add(&state, received).await
    };
    respond(&headers, result.await, |_| "/adapters".to_owned(), "/adapters")
}

/// JSON for programs and live pages; for a plain form the page that shows what came of it.
fn respond<T: Serialize>(headers: &HeaderMap, result: ApiResult<T>, shown_at: impl Fn(&T) -> String, page: &str) -> Response {
    let plain_form = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|accept| accept.contains("text/html"));
    match result {
        Ok(made) if plain_form => Redirect::to(&shown_at(&made)).into_response(),
        Ok(made) => (StatusCode::OK, Json(made)).into_response(),
        Err(error) if plain_form => Redirect::to(&format!("{page}?error={}", encoded(&error.message))).into_response(),
        Err(error) => Refusal(error).into_response(),
    }
}

/// A sentence as part of an address.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
