//! The browser's side of `/events/{run}`: opened while the run is active, opened again when it breaks, closed with the page.

use super::{Feed, Link};
use crate::api::{Event, RunKind};
use crate::calls::{runs::get_run, training::get_training};
use leptos::prelude::*;
use std::time::Duration;
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{EventSource, MessageEvent};

/// Between attempts, once the browser itself has given up (it does so when a proxy answers for a server that restarts).
const PAUSE: Duration = Duration::from_secs(3);

/// The connection and the closures it calls.
struct Source {
    events: EventSource,
    _on_open: Closure<dyn FnMut()>,
    _on_message: Closure<dyn FnMut(MessageEvent)>,
    _on_error: Closure<dyn FnMut()>,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.events.close();
    }
}

type Slot = StoredValue<Option<Source>, LocalStorage>;

pub fn follow(feed: Feed) {
    if !feed.run.with_untracked(|run| run.state.is_active()) {
        return;
    }
    let slot: Slot = StoredValue::new_local(None);
    Effect::new(move |_| connect(feed, slot));
    on_cleanup(move || {
        slot.try_set_value(None);
    });
}

fn connect(feed: Feed, slot: Slot) {
    let id = feed.run.with_untracked(|run| run.id.clone());
    // What was learnt while the page was on its way is told again.
    let known = feed.losses.with_untracked(|losses| losses.last().map_or(0, |point| point.step));
    let Ok(events) = EventSource::new(&format!("/events/{id}?after={known}")) else { return };
    let on_open = Closure::new(move || {
        if feed.link.try_get_untracked() == Some(Link::Lost) {
            catch_up(feed);
        }
        feed.link.try_set(Link::Live);
    });
    let handle = events.clone();
    let on_message = Closure::new(move |message: MessageEvent| {
        let event = message.data().as_string().and_then(|text| serde_json::from_str::<Event>(&text).ok());
        if let Some(event) = event
            && !hear(feed, event)
        {
            // Left open, the browser would take the end of the stream for a broken connection.
            handle.close();
        }
    });
    let handle = events.clone();
    let on_error = Closure::new(move || {
        feed.link.try_set(Link::Lost);
        if handle.ready_state() == EventSource::CLOSED {
            set_timeout(move || try_again(feed, slot), PAUSE);
        }
    });
    events.set_onopen(Some(on_open.as_ref().unchecked_ref()));
    events.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
    events.set_onerror(Some(on_error.as_ref().unchecked_ref()));
    slot.try_set_value(Some(Source { events, _on_open: on_open, _on_message: on_message, _on_error: on_error }));
}

/// Takes the event in; false when it was the last one.
fn hear(feed: Feed, event: Event) -> bool {
    let Event::Snapshot { run } = &event else {
        feed.apply(event);
        return true;
    };
    let (active, drawn) = (run.state.is_active(), run.pictures.len());
    feed.apply(event);
    if drawn > feed.pictures.with_untracked(Vec::len) {
        catch_up(feed);
    }
    active
}

/// Fetches what was said while nobody listened.
fn catch_up(feed: Feed) {
    let Some((id, kind)) = feed.run.try_with_untracked(|run| (run.id.clone(), run.kind)) else { return };
    leptos::task::spawn_local(async move {
        match kind {
            RunKind::Train => {
                if let Ok(detail) = get_training(id).await
                    && !feed.run.is_disposed()
                {
                    feed.add_losses(detail.losses);
                    feed.add_samples(detail.samples);
                }
            }
            RunKind::Generate | RunKind::Compare => {
                if let Ok(view) = get_run(id).await
                    && !feed.run.is_disposed()
                {
                    feed.add_pictures(view.pictures);
                }
            }
        }
    });
}

fn try_again(feed: Feed, slot: Slot) {
    let Some(id) = feed.run.try_with_untracked(|run| run.id.clone()) else { return };
    leptos::task::spawn_local(async move {
        match get_run(id).await {
            Err(error) if error.status == 404 => {
                feed.link.try_set(Link::Gone);
            }
            _ if feed.run.is_disposed() => {}
            _ => connect(feed, slot),
        }
    });
}
