//! `POST /v1/images/generations`: a run, waited for. A client that leaves takes its run along.

use super::{
    Error, links, models,
    request::{ImagesRequest, Order, ResponseFormat},
    stream,
};
use crate::{
    jobs::Jobs,
    server::{
        AppState,
        error::Refusal,
        events,
        rest::{Caller, extract::Body, fill},
    },
    store::{BlobKey, Owner},
};
use app::api::{GenerateRequest, PictureId, Run, RunId, RunState};
use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// Longer than any client waits.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

#[derive(Serialize, ToSchema)]
#[schema(as = OpenAiImages)]
pub struct Images {
    created: i64,
    data: Vec<Image>,
    background: &'static str,
    output_format: &'static str,
    quality: &'static str,
    size: String,
    usage: Usage,
}

/// One of both, as it was asked for.
#[derive(Serialize, ToSchema)]
#[schema(as = OpenAiImage)]
pub struct Image {
    #[serde(skip_serializing_if = "Option::is_none")]
    b64_json: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// The prompt with the adapter's trigger phrase, where that was added.
    #[serde(skip_serializing_if = "Option::is_none")]
    revised_prompt: Option<String>,
    /// Beyond OpenAI's.
    seed: u64,
}

/// Tokens that the transformer worked on: the prompt's are padded to a fixed number.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[schema(as = OpenAiUsage)]
pub struct Usage {
    input_tokens: u32,
    input_tokens_details: InputTokens,
    output_tokens: u32,
    total_tokens: u32,
}

#[derive(Clone, Copy, Serialize, ToSchema)]
#[schema(as = OpenAiInputTokens)]
pub struct InputTokens {
    text_tokens: u32,
    image_tokens: u32,
}

impl Usage {
    pub fn of(request: &GenerateRequest) -> Self {
        let (text, image) = (crate::jobs::resident::T5_TOKENS as u32, request.width / 16 * (request.height / 16));
        let (input_tokens, output_tokens) = (text * request.count, image * request.count);
        let input_tokens_details = InputTokens { text_tokens: input_tokens, image_tokens: 0 };
        Self { input_tokens, input_tokens_details, output_tokens, total_tokens: input_tokens + output_tokens }
    }
}

/// Draw pictures
///
/// Waits until they are done; with `stream` it tells of `image_generation.partial_image` and `image_generation.completed` as they come. A
/// client that leaves before the end stops the run.
#[utoipa::path(post, path = "/images/generations", tag = "OpenAI", request_body = ImagesRequest,
    responses((status = 200, content((Images = "application/json"), (stream::Told = "text/event-stream")))))]
pub async fn generate_images(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    body: Result<Body<ImagesRequest>, Refusal>,
) -> Result<Response, Error> {
    let Body(asked) = body?;
    let api = caller.api(&state);
    let model = models::find(&state, &api, asked.model.as_deref()).await?;
    let order = asked.order(model)?;
    let order = Order { request: fill(&state, order.request).await?, ..order };
    let run = api.generate(order.request.clone()).await?;
    let watched = Watched { jobs: state.jobs.clone(), owner: caller.owner(), run: Some(run) };
    if let Some(looks) = order.stream {
        return Ok(stream::respond(watched, order.request, looks).await?.into_response());
    }
    let run = watched.until_ended().await?;
    Ok(Json(images(&state, &caller.owner(), &headers, &order, &run).await?).into_response())
}

async fn images(state: &AppState, owner: &Owner, headers: &HeaderMap, order: &Order, run: &Run) -> Result<Images, Error> {
    let mut data = Vec::with_capacity(run.pictures.len());
    for picture in &run.pictures {
        let (url, b64_json) = match order.format {
            ResponseFormat::Url => (Some(links::address(headers, &state.links.make(picture))), None),
            ResponseFormat::B64Json => (None, Some(encoded(&state.jobs, picture).await?)),
        };
        let seed = state.jobs.store.picture(owner, picture).await?.seed;
        data.push(Image { b64_json, url, revised_prompt: order.revised_prompt.clone(), seed });
    }
    let GenerateRequest { width, height, .. } = order.request;
    Ok(Images {
        created: crate::store::now(),
        data,
        background: "opaque",
        output_format: "png",
        quality: "high",
        size: format!("{width}x{height}"),
        usage: Usage::of(&order.request),
    })
}

pub async fn encoded(jobs: &Jobs, picture: &PictureId) -> Result<String, Error> {
    Ok(BASE64_STANDARD.encode(jobs.store.blobs.get(&BlobKey::picture(picture)).await?))
}

/// A run that somebody waits for; stopped when nobody does any more.
pub struct Watched {
    pub jobs: Jobs,
    pub owner: Owner,
    run: Option<RunId>,
}

impl Watched {
    pub fn id(&self) -> RunId {
        self.run.clone().unwrap_or_else(|| String::new().into())
    }

    /// It is over: there is nothing to stop.
    pub fn over(&mut self) {
        self.run = None;
    }

    async fn until_ended(mut self) -> Result<Run, Error> {
        let run = events::until_ended(&self.jobs, &self.owner, &self.id(), PATIENCE).await?;
        self.over();
        done(run)
    }
}

/// The run if it was done, or why it was not.
pub fn done(run: Run) -> Result<Run, Error> {
    match run.state {
        RunState::Done => Ok(run),
        RunState::Failed => Err(Error::server(500, run.error.unwrap_or_else(|| "The picture could not be drawn.".to_owned()))),
        RunState::Stopped => Err(Error::refused(422, "The picture was stopped before it was done.")),
        RunState::Queued | RunState::Running => {
            Err(Error::server(503, "Atelier is being started anew, and draws the picture then: it will be in the gallery."))
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let (Some(run), Ok(runtime)) = (self.run.take(), tokio::runtime::Handle::try_current()) else { return };
        let (jobs, owner) = (self.jobs.clone(), self.owner.clone());
        runtime.spawn(async move {
            if let Err(error) = jobs.stop(&owner, &run).await {
                tracing::warn!(%run, %error, "a run that nobody waits for goes on");
            }
        });
    }
}
