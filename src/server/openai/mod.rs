//! `/v1`: as much of OpenAI's HTTP API as pictures need, for programs that speak it already. Reference: OpenAI's API reference, "Images" and "Models".

mod error;
mod generate;
mod links;
mod models;
mod request;
mod stream;

pub use error::Error;
pub use links::Links;

use super::AppState;
use axum::{Router, routing::get};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Below [`super::rest::OPENAI`].
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(generate::generate_images))
        .routes(routes!(models::list_models))
        .routes(routes!(models::show_model))
        .fallback(nothing)
}

/// Pictures by link, which whoever has the link may fetch: clients send no token there.
pub fn files() -> Router<AppState> {
    Router::new().route("/v1/images/files/{link}", get(links::fetch))
}

async fn nothing() -> Error {
    Error::not_found("Of OpenAI's API this server has POST /v1/images/generations, GET /v1/models and GET /v1/models/{model}.")
}
