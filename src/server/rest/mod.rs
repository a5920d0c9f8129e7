//! `/api/v1`: the system for scripts, in the wire types of the pages. The OpenAPI document is made of the handlers themselves, so that
//! there is no route without its word there.

mod adapters;
pub mod auth;
mod comparisons;
mod datasets;
mod defaults;
pub mod extract;
mod files;
mod page;
mod pictures;
mod runs;
mod studio;
mod trainings;

pub use auth::Caller;
pub use defaults::{facts, generate as fill};

use super::{AppState, error::Refusal, openai, upload};
use app::api::ApiError;
use axum::{
    Json, Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use std::sync::Arc;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        ContentBuilder, Ref, RefOr, ResponseBuilder,
        path::Operation,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

/// Where the API lies; a new version would lie beside it.
pub const V1: &str = "/api/v1";
/// Where clients of OpenAI's API look.
pub const OPENAI: &str = "/v1";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Atelier",
        description = "Draw pictures with FLUX.1, fine-tune adapters, compare: what the pages do, for scripts. Work that takes time is a run: wait for it \
            with `?wait=SECONDS`, or watch its events. Times are seconds since 1970. Errors say what to do in `message`."
    ),
    tags(
        (name = "Studio"), (name = "Pictures"), (name = "Runs"), (name = "Style sets"), (name = "Trainings"), (name = "Adapters"),
        (name = "Comparisons"), (name = "OpenAI", description = "As clients of OpenAI's images API expect it.")
    ),
    components(schemas(ApiError, openai::Error)),
    modifiers(&Signed)
)]
struct Document;

/// A token opens every operation.
struct Signed;

impl Modify for Signed {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A token, from `atelier token create`.")).build();
        document.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(bearer));
        document.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>("token", [])]);
    }
}

/// Every route of the API, the OpenAPI document and the page that lists it.
pub fn routes(state: &AppState) -> Router<AppState> {
    let (router, document) = documented(state).split_for_parts();
    let document = Arc::new(completed(document));
    let page: Arc<str> = page::render(&document).into();
    Router::new()
        .route("/api", get(async move || Html(page.to_string())))
        .route("/api/openapi.json", get(async move || Json(document.clone())))
        .merge(router)
        .merge(openai::files())
}

fn documented(state: &AppState) -> OpenApiRouter<AppState> {
    let admitted = |refused: fn(ApiError) -> Response| middleware::from_fn_with_state((state.clone(), refused), admitted);
    OpenApiRouter::with_openapi(Document::openapi())
        .nest(V1, v1().fallback(nothing).layer(admitted(|error| Refusal(error).into_response())))
        .nest(OPENAI, openai::routes().layer(admitted(|error| openai::Error::from(error).into_response())))
}

fn v1() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(studio::show_studio))
        .routes(routes!(pictures::draw_pictures, pictures::list_pictures))
        .routes(routes!(pictures::show_picture, pictures::delete_picture))
        .routes(routes!(pictures::fetch_picture))
        .routes(routes!(runs::list_runs))
        .routes(routes!(runs::show_run))
        .routes(routes!(runs::watch_run))
        .routes(routes!(runs::stop_run))
        .routes(routes!(runs::resume_run))
        .routes(routes!(datasets::list_sample_sets))
        .routes(routes!(datasets::copy_sample_set))
        .routes(routes!(datasets::list_datasets, datasets::send_dataset).layer(upload::limit()))
        .routes(routes!(datasets::show_dataset, datasets::change_dataset, datasets::delete_dataset))
        .routes(routes!(datasets::send_more_pictures).layer(upload::limit()))
        .routes(routes!(datasets::fetch_dataset_picture, datasets::change_caption, datasets::remove_dataset_picture))
        .routes(routes!(trainings::list_recipes))
        .routes(routes!(trainings::predict_training))
        .routes(routes!(trainings::start_training))
        .routes(routes!(trainings::show_training))
        .routes(routes!(trainings::fetch_sample))
        .routes(routes!(adapters::list_adapters, adapters::send_adapter).layer(upload::limit()))
        .routes(routes!(adapters::show_adapter, adapters::rename_adapter, adapters::delete_adapter))
        .routes(routes!(adapters::fetch_weights))
        .routes(routes!(adapters::show_adapter_recipe))
        .routes(routes!(adapters::show_tally))
        .routes(routes!(adapters::review_publication, adapters::publish_adapter, adapters::unpublish_adapter))
        .routes(routes!(adapters::show_publication))
        .routes(routes!(comparisons::draw_comparison, comparisons::list_comparisons))
        .routes(routes!(comparisons::show_comparison))
        .routes(routes!(comparisons::vote))
}

/// Nobody gets past this without a token, where one is needed.
async fn admitted(State((state, refused)): State<(AppState, fn(ApiError) -> Response)>, mut request: Request, next: Next) -> Response {
    match auth::admit(&state, request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            let response = next.run(request).await;
            if response.status() == StatusCode::METHOD_NOT_ALLOWED { refused(not_so()) } else { response }
        }
        Err(error) if error.status == 401 => ([(header::WWW_AUTHENTICATE, "Bearer")], refused(error)).into_response(),
        Err(error) => refused(error),
    }
}

/// A request to the API with a token, which no page elsewhere can send unasked: it needs no proof that it comes from our own.
pub fn is_signed(request: &Request) -> bool {
    is_api(request.uri().path()) && auth::bearer(request.headers()).is_some()
}

pub fn is_api(path: &str) -> bool {
    [V1, OPENAI].iter().any(|root| path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/')))
}

async fn nothing() -> Refusal {
    Refusal(ApiError::new(404, "There is nothing at this address of the API; /api lists what there is."))
}

fn not_so() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED.as_u16(), "This address takes other methods; /api lists them.")
}

/// Says of every operation in which shape it refuses, and of every answer at least what its status means.
fn completed(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    for (path, item) in &mut document.paths.paths {
        let schema = if path.starts_with(V1) { "ApiError" } else { "OpenAiError" };
        let content = ContentBuilder::new().schema(Some(RefOr::Ref(Ref::from_schema_name(schema)))).build();
        let refusal = ResponseBuilder::new().description("It is refused, or failed").content("application/json", content).build();
        for operation in operations(item) {
            for (status, answer) in &mut operation.responses.responses {
                if let RefOr::T(answer) = answer
                    && answer.description.is_empty()
                {
                    let meaning = status.parse().ok().and_then(|status: StatusCode| status.canonical_reason());
                    answer.description = meaning.unwrap_or("An answer").to_owned();
                }
            }
            operation.responses.responses.insert("default".to_owned(), refusal.clone().into());
        }
    }
    document
}

fn operations(item: &mut utoipa::openapi::PathItem) -> impl Iterator<Item = &mut Operation> {
    let utoipa::openapi::PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}
