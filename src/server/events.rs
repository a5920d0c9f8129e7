//! How a run stands, then every change: as a stream for handlers, and as server-sent events on `GET /events/{run}`. Ends with the run.

use super::{AppState, error::Refusal, visitor::Visitor};
use crate::{
    jobs::Jobs,
    store::{self, Owner},
};
use app::api::{Event, Run, RunId};
use axum::{
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderName, HeaderValue},
    response::{
        IntoResponse,
        sse::{self, KeepAlive, Sse},
    },
};
use futures::{Stream, StreamExt, stream};
use std::{
    collections::{HashSet, VecDeque},
    convert::Infallible,
    time::Duration,
};
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// Where a watcher left off: losses after this step are told again.
#[derive(serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct From {
    /// Tell losses after this step again; 0 tells them all.
    pub after: Option<u32>,
}

pub async fn events(
    State(state): State<AppState>,
    visitor: Visitor,
    Path(id): Path<RunId>,
    Query(From { after }): Query<From>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Refusal> {
    respond(&state, visitor.owner(), id, after, &headers).await
}

/// The stream of a run as an answer. A browser that reconnects says in a header which loss it heard last.
pub async fn respond(
    state: &AppState,
    owner: Owner,
    id: RunId,
    after: Option<u32>,
    headers: &HeaderMap,
) -> Result<impl IntoResponse + use<>, Refusal> {
    let last_event = || headers.get("last-event-id")?.to_str().ok()?.parse().ok();
    let rates = state.rates.as_ref().filter(|_| owner.is_limited());
    let open = (state.metrics.event_stream(), rates.map(|rates| rates.watch(&owner)).transpose()?);
    let events = watch(&state.jobs, owner, id, last_event().or(after)).await?.map(move |event| {
        let _ = &open;
        Ok::<_, Infallible>(encode(&event))
    });
    // Proxies must not gather the events of a minute.
    let unbuffered = [(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"))];
    Ok((unbuffered, Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(10)))))
}

/// How the run stands, losses after step `after` where it is given, and whatever happens until the run ends: the last event is a snapshot.
/// Nothing is left out: what a slow watcher missed is read from the store.
pub async fn watch(jobs: &Jobs, owner: Owner, id: RunId, after: Option<u32>) -> store::Result<impl Stream<Item = Event> + Send + use<>> {
    let row = jobs.store.run(&owner, &id).await?;
    // Subscribed before the losses are read: none can fall between.
    let subscription = jobs.hub.subscribe(&id);
    let told_loss = match after {
        Some(step) => step,
        None => jobs.store.last_loss_step(&id).await?,
    };
    let mut watch =
        Watch { jobs: jobs.clone(), owner, id, changes: None, ready: VecDeque::new(), told: Told { loss: told_loss, ..Told::default() } };
    match subscription {
        Some(subscription) => {
            watch.ready.extend(subscription.now);
            watch.changes = Some(subscription.changes);
        }
        // Ended between the two looks, perhaps: the row is read again, and is the last word.
        None if row.state.is_active() => watch.ready.push_back(Event::Snapshot { run: watch.run().await? }),
        None => watch.ready.push_back(Event::Snapshot { run: row }),
    }
    if after.is_some() {
        watch.add_missed_losses().await?;
    }
    Ok(stream::unfold(watch, Watch::next))
}

/// The run when it ends, or as it stands when patience does.
pub async fn until_ended(jobs: &Jobs, owner: &Owner, id: &RunId, patience: Duration) -> store::Result<Run> {
    let events = watch(jobs, owner.clone(), id.clone(), None).await?;
    // To the end of the stream: that of a process which is leaving ends too, though the run does not.
    let _ = tokio::time::timeout(patience, events.for_each(|_| std::future::ready(()))).await;
    Ok(jobs.hub.newest(jobs.store.run(owner, id).await?))
}

struct Watch {
    jobs: Jobs,
    owner: Owner,
    id: RunId,
    changes: Option<Receiver<Event>>,
    /// To be told next.
    ready: VecDeque<Event>,
    told: Told,
}

/// What a watcher knows already.
#[derive(Default)]
struct Told {
    /// Step of the newest loss.
    loss: u32,
    /// Pictures by id, samples by address.
    things: HashSet<String>,
    the_end: bool,
}

impl Watch {
    async fn next(mut self) -> Option<(Event, Self)> {
        loop {
            while let Some(event) = self.ready.pop_front() {
                if self.told.is_news(&event) {
                    return Some((event, self));
                }
            }
            let heard = match &mut self.changes {
                Some(changes) => changes.recv().await,
                None => return None,
            };
            match heard {
                Ok(event) => self.ready.push_back(event),
                Err(RecvError::Lagged(_)) => self.catch_up().await.ok()?,
                Err(RecvError::Closed) => {
                    self.changes = None;
                    if !self.told.the_end {
                        let run = self.run().await.ok()?;
                        self.ready.push_back(Event::Snapshot { run });
                    }
                }
            }
        }
    }

    async fn run(&self) -> store::Result<Run> {
        self.jobs.store.run(&self.owner, &self.id).await
    }

    /// A watcher that was too slow for its backlog: everything lasting that it missed, and where things stand. Looks at unfinished
    /// pictures are not told again; the next one comes soon.
    async fn catch_up(&mut self) -> store::Result<()> {
        self.add_missed_losses().await?;
        let samples = self.jobs.store.samples(&self.id).await?;
        self.ready.extend(samples.into_iter().map(|sample| Event::Sample { sample }));
        let run = self.jobs.hub.newest(self.run().await?);
        for id in &run.pictures {
            // One may have been deleted since.
            if let Ok(picture) = self.jobs.store.picture(&self.owner, id).await {
                self.ready.push_back(Event::Picture { picture: Box::new(picture) });
            }
        }
        self.ready.push_back(Event::Snapshot { run });
        Ok(())
    }

    async fn add_missed_losses(&mut self) -> store::Result<()> {
        let missed = self.jobs.store.losses(&self.id, self.told.loss).await?;
        self.ready.extend(missed.into_iter().map(|point| Event::Loss { point }));
        Ok(())
    }
}

impl Told {
    /// Whether it was not told before; from now on it was.
    fn is_news(&mut self, event: &Event) -> bool {
        match event {
            Event::Snapshot { run } => {
                self.the_end |= !run.state.is_active();
                true
            }
            Event::Preview { .. } => true,
            Event::Picture { picture } => self.things.insert(picture.id.0.clone()),
            Event::Sample { sample } => self.things.insert(sample.url.clone()),
            Event::Loss { point } => {
                let news = point.step > self.loss;
                self.loss = self.loss.max(point.step);
                news
            }
        }
    }
}

fn encode(event: &Event) -> sse::Event {
    let encoded = sse::Event::default().data(serde_json::to_string(event).unwrap_or_default());
    match event {
        Event::Loss { point } => encoded.id(point.step.to_string()),
        _ => encoded,
    }
}
