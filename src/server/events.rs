//! `GET /events/{run}`: how a run stands, then every change, as server-sent events. Ends with the run.

use super::{AppState, error::Refusal, visitor::Visitor};
use crate::store::Owner;
use app::api::{Event, Run, RunId};
use axum::{
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderName, HeaderValue},
    response::{
        IntoResponse,
        sse::{self, KeepAlive, Sse},
    },
};
use futures::{StreamExt, stream};
use std::{convert::Infallible, time::Duration};
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// Where a watcher left off: losses after this step are told again.
#[derive(serde::Deserialize)]
pub struct From {
    after: Option<u32>,
}

pub async fn events(
    State(state): State<AppState>,
    visitor: Visitor,
    Path(id): Path<RunId>,
    Query(From { after }): Query<From>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Refusal> {
    let owner = visitor.owner();
    let row = state.jobs.store.run(&owner, &id).await?;
    // Subscribed before the losses are read: none can fall between.
    let subscription = state.jobs.hub.subscribe(&id);
    let missed = match after.or_else(|| last_event(&headers)) {
        Some(step) => state.jobs.store.losses(&id, step).await?,
        None => Vec::new(),
    };
    let missed = missed.into_iter().map(|point| Event::Loss { point });
    let (now, changes) = match subscription {
        Some(subscription) => (subscription.now, Some(subscription.changes)),
        // Ended between the two looks, perhaps: the row is read again, and is the last word.
        None if row.state.is_active() => (vec![Event::Snapshot { run: state.jobs.store.run(&owner, &id).await? }], None),
        None => (vec![Event::Snapshot { run: row }], None),
    };
    let begin = stream::iter(now.into_iter().chain(missed).collect::<Vec<_>>());
    let watch = Watch { changes, told_the_end: false, state, owner, id };
    let events = begin.chain(stream::unfold(watch, Watch::next)).map(|event| Ok::<_, Infallible>(encode(&event)));
    // Proxies must not gather the events of a minute.
    let unbuffered = [(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"))];
    Ok((unbuffered, Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(10)))))
}

/// A browser that reconnects says which loss it heard last.
fn last_event(headers: &HeaderMap) -> Option<u32> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

struct Watch {
    changes: Option<Receiver<Event>>,
    told_the_end: bool,
    state: AppState,
    owner: Owner,
    id: RunId,
}

impl Watch {
    async fn next(mut self) -> Option<(Event, Self)> {
        while let Some(changes) = &mut self.changes {
            match changes.recv().await {
                Ok(event) => {
                    self.told_the_end |= matches!(&event, Event::Snapshot { run } if !run.state.is_active());
                    return Some((event, self));
                }
                // Too slow for some previews; the next snapshot says where things stand.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => self.changes = None,
            }
            if self.changes.is_none() && !self.told_the_end {
                let run: Run = self.state.jobs.store.run(&self.owner, &self.id).await.ok()?;
                return Some((Event::Snapshot { run }, self));
            }
        }
        None
    }
}

fn encode(event: &Event) -> sse::Event {
    let encoded = sse::Event::default().data(serde_json::to_string(event).unwrap_or_default());
    match event {
        Event::Loss { point } => encoded.id(point.step.to_string()),
        _ => encoded,
    }
}
