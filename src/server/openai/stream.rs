//! A picture told of while it is drawn, as OpenAI's clients stream it.

use super::{
    Error,
    generate::{Usage, Watched, done, encoded},
};
use crate::{server::events, store::now};
use app::api::{Event, GenerateRequest, Run};
use axum::response::sse::{self, KeepAlive, Sse};
use futures::{Stream, StreamExt, stream::unfold};
use serde::Serialize;
use std::{convert::Infallible, pin::Pin, time::Duration};
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
#[serde(tag = "type")]
#[schema(as = OpenAiImageEvent)]
pub enum Told {
    /// A small look at the unfinished picture.
    #[serde(rename = "image_generation.partial_image")]
    Partial {
        b64_json: String,
        partial_image_index: u32,
        #[serde(flatten)]
        about: About,
    },
    #[serde(rename = "image_generation.completed")]
    Completed {
        b64_json: String,
        usage: Usage,
        #[serde(flatten)]
        about: About,
    },
}

#[derive(Clone, Serialize, ToSchema)]
#[schema(as = OpenAiImageAbout)]
pub struct About {
    created_at: i64,
    size: String,
    quality: &'static str,
    background: &'static str,
    output_format: &'static str,
}

/// Up to `looks` looks on the way, evenly spread, then the picture; or the reason why there is none.
pub async fn respond(
    watched: Watched,
    request: GenerateRequest,
    looks: u32,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>> + Send>, Error> {
    let events = Box::pin(events::watch(&watched.jobs, watched.owner.clone(), watched.id(), None).await?);
    let telling = Telling { watched, events, request, looks, looked: 0 };
    let told = unfold(Some(telling), async |telling: Option<Telling>| telling?.next().await);
    Ok(Sse::new(told.map(Ok)).keep_alive(KeepAlive::new().interval(Duration::from_secs(10))))
}

struct Telling {
    watched: Watched,
    events: Pin<Box<dyn Stream<Item = Event> + Send>>,
    request: GenerateRequest,
    looks: u32,
    /// Looks told of.
    looked: u32,
}

impl Telling {
    /// The next word, and who tells the one after it; nobody after the last.
    async fn next(mut self) -> Option<(sse::Event, Option<Self>)> {
        let mut last = None;
        while let Some(event) = self.events.next().await {
            match event {
                Event::Preview { data_url, step, .. } if self.is_time(step) => {
                    let told = self.partial(&data_url);
                    return Some((told, Some(self)));
                }
                Event::Snapshot { run } => last = Some(run),
                _ => {}
            }
        }
        let word = match self.end(last).await {
            Ok(told) => encode("image_generation.completed", &told),
            Err(error) => encode("error", &error),
        };
        Some((word, None))
    }

    /// Looks come after equal parts of the steps; none after the last, which is the picture.
    fn is_time(&self, step: u32) -> bool {
        self.looked < self.looks && step < self.request.steps && step * (self.looks + 1) >= (self.looked + 1) * self.request.steps
    }

    fn partial(&mut self, data_url: &str) -> sse::Event {
        let b64_json = data_url.split_once(',').map_or(data_url, |(_, bytes)| bytes).to_owned();
        let told = Told::Partial { b64_json, partial_image_index: self.looked, about: self.about("jpeg") };
        self.looked += 1;
        encode("image_generation.partial_image", &told)
    }

    async fn end(&mut self, last: Option<Run>) -> Result<Told, Error> {
        let run = match last {
            Some(run) if !run.state.is_active() => run,
            // The last word was told before this one was asked for.
            _ => self.watched.jobs.store.run(&self.watched.owner, &self.watched.id()).await?,
        };
        self.watched.over();
        let run = done(run)?;
        let picture = run.pictures.first().ok_or_else(|| Error::server(500, "The picture was deleted before it was told of."))?;
        let b64_json = encoded(&self.watched.jobs, picture).await?;
        Ok(Told::Completed { b64_json, usage: Usage::of(&self.request), about: self.about("png") })
    }

    fn about(&self, output_format: &'static str) -> About {
        let GenerateRequest { width, height, .. } = self.request;
        About { created_at: now(), size: format!("{width}x{height}"), quality: "high", background: "opaque", output_format }
    }
}

fn encode(name: &str, told: &impl Serialize) -> sse::Event {
    sse::Event::default().event(name).data(serde_json::to_string(told).unwrap_or_default())
}
