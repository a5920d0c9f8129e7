//! Every route of the server, and what surrounds it.

use super::{AppState, error::Refusal, events, files, headers, metrics, rates, rest, sign_in, upload, visitor::Visitor};
use app::{
    App,
    api::{Api, ApiError},
    shell,
};
use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use leptos::prelude::{provide_context, use_context};
use leptos_axum::{LeptosRoutes, generate_route_list_with_exclusions_and_ssg_and_context};
use std::{any::Any, sync::Arc};
use tower_http::{
    catch_panic::CatchPanicLayer, compression::CompressionLayer, limit::RequestBodyLimitLayer, services::ServeDir, trace::TraceLayer,
};

/// The longest prompt is 16 KB at most; captions and forms are shorter. Some room, so that too long a text is refused with its limit.
const BODY: usize = 2 << 20;

pub fn router(state: AppState) -> Router {
    let context = {
        let state = state.clone();
        move || provide_context::<Arc<dyn Api>>(state.api(asking()))
    };
    let document = {
        let options = state.leptos.clone();
        move || shell(options.clone())
    };
    let paths = generate_route_list_with_exclusions_and_ssg_and_context(App, None, context.clone()).0;
    // Server functions read their body themselves, past axum's own limit.
    let pages = Router::new().leptos_routes_with_context(&state, paths, context, document).layer(RequestBodyLimitLayer::new(BODY));
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics::show))
        .route("/events/{run}", get(events::events))
        .merge(files::routes())
        .merge(upload::routes())
        .merge(rest::routes(&state))
        .merge(sign_in::routes())
        .merge(pages)
        .nest_service("/pkg", ServeDir::new(state.site.folder.join("pkg")))
        .fallback(static_file_or_page)
        .layer(middleware::from_fn(fresh_scripts))
        .layer(middleware::from_fn(own_status))
        .layer(middleware::from_fn_with_state(state.clone(), rates::limit))
        .layer(middleware::from_fn_with_state(state.clone(), sign_in::identify))
        .layer(middleware::from_fn_with_state(state.clone(), headers::same_origin))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(CompressionLayer::new())
        .layer(middleware::from_fn_with_state(state.clone(), headers::secure))
        .layer(middleware::from_fn_with_state(state.metrics.clone(), metrics::count))
        .layer(TraceLayer::new_for_http().make_span_with(span))
        .with_state(state)
}

/// Who sent the request that leptos answers.
fn asking() -> Visitor {
    use_context::<Parts>().map_or(Visitor::Stranger { framed: false }, |parts| Visitor::of(&parts))
}

/// Method and path, for the log. What follows the path may be a code that signs somebody in.
fn span<B>(request: &axum::http::Request<B>) -> tracing::Span {
    tracing::debug_span!("request", method = %request.method(), path = request.uri().path())
}

#[derive(serde::Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
    /// The model is loaded.
    ready: bool,
}

async fn health(State(state): State<AppState>) -> Json<Health> {
    let ready = matches!(state.jobs.device.loading(), crate::jobs::device::Loading::Ready(_));
    Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION"), ready })
}

/// A file of the site, or the pages' own word on what is not there.
async fn static_file_or_page(State(state): State<AppState>, visitor: Visitor, request: Request) -> Response {
    let api = state.api(visitor);
    let context = move || provide_context(api.clone());
    let handler = leptos_axum::file_and_error_handler_with_context::<AppState, _>(context, shell);
    let wants_json = request.headers().get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"application/json"));
    let uri = request.uri().clone();
    let response = handler(uri, State(state), request).await;
    if wants_json && response.status() == StatusCode::NOT_FOUND {
        return Refusal(ApiError::new(404, "There is nothing at this address.")).into_response();
    }
    response
}

/// Server functions answer every error with 500; the status that was meant is in the body.
async fn own_status(request: Request, next: Next) -> Response {
    const LONGEST: usize = 64 << 10;
    let is_function = request.uri().path().starts_with("/api/");
    let response = next.run(request).await;
    if !is_function || response.status() != StatusCode::INTERNAL_SERVER_ERROR {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, LONGEST).await else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let meant = serde_json::from_slice::<ApiError>(&bytes).ok().and_then(|error| StatusCode::from_u16(error.status).ok());
    parts.status = meant.unwrap_or(parts.status);
    Response::from_parts(parts, Body::from(bytes))
}

/// Scripts and styles keep their names from build to build: a browser asks each time whether they changed.
async fn fresh_scripts(request: Request, next: Next) -> Response {
    let is_script = request.uri().path().starts_with("/pkg/");
    let mut response = next.run(request).await;
    if is_script {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    response
}

fn panicked(_: Box<dyn Any + Send>) -> Response<Body> {
    let sentence = "Something inside Atelier broke while it answered. Try again; the log says where.";
    Refusal(ApiError::new(500, sentence)).into_response()
}
