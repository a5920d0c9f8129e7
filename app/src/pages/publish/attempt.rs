//! The newest attempt: how far it is, that it worked, or why it did not.

use crate::api::{AdapterId, PublishState};
use crate::components::{ErrorNote, RefreshWithoutScripts, When};
use crate::format;
use leptos::prelude::*;

#[component]
pub fn Attempt(adapter: AdapterId, initial: Option<PublishState>, ended: RwSignal<u32>) -> impl IntoView {
    let state = RwSignal::new(initial.unwrap_or_default());
    Effect::new(move |_| {
        if state.with_untracked(|state| state.active) {
            follow(adapter.clone(), state, ended);
        }
    });
    let active = Memo::new(move |_| state.with(|state| state.active));
    let error = Signal::derive(move || state.with(|state| state.error.clone()));
    view! {
        <section class="attempt" aria-label="Progress">
            <When holds=active>
                <RefreshWithoutScripts seconds=2/>
                <div class="progress">
                    <progress
                        aria-label="Publishing"
                        max=move || state.with(|state| state.total.max(1).to_string())
                        value=move || state.with(|state| (state.total > 0).then(|| state.done.to_string()))
                    ></progress>
                    <p class="progress-words">{move || state.with(words)}</p>
                </div>
            </When>
            <ErrorNote message=error/>
            <div role="status">{move || state.with(|state| state.published.clone()).map(|done| view! {
                <p class="note" id="published">
                    "Published, downloaded again and compared bit by bit: "
                    <a href=done.url>{done.repo}</a>
                </p>
            })}</div>
        </section>
    }
    .into_any()
}

fn words(state: &PublishState) -> String {
    let mut phase = state.phase.clone();
    if let Some(first) = phase.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    match (state.total, state.phase.contains("files")) {
        (0, _) => format!("{phase}…"),
        (total, true) => format!("{phase} · {} of {}", format::bytes(state.done), format::bytes(total)),
        (total, false) => format!("{phase} · {} of {total}", state.done),
    }
}

/// Asks until the attempt ends.
#[cfg(feature = "hydrate")]
fn follow(adapter: AdapterId, state: RwSignal<PublishState>, ended: RwSignal<u32>) {
    use crate::calls::publishing::get_publish_state;
    const EVERY: std::time::Duration = std::time::Duration::from_millis(500);
    let ask = move || {
        let adapter = adapter.clone();
        leptos::task::spawn_local(async move {
            let Ok(Some(now)) = get_publish_state(adapter).await else { return };
            let was_active = state.try_with_untracked(|state| state.active).unwrap_or(false);
            if was_active && !now.active {
                ended.try_update(|ended| *ended += 1);
            }
            state.try_set(now);
        });
    };
    let asking = move || {
        if state.try_with_untracked(|state| state.active).unwrap_or(false) {
            ask();
        }
    };
    if let Ok(timer) = set_interval_with_handle(asking, EVERY) {
        on_cleanup(move || timer.clear());
    }
}

/// Nobody waits on the server.
#[cfg(not(feature = "hydrate"))]
fn follow(_: AdapterId, _: RwSignal<PublishState>, _: RwSignal<u32>) {}
