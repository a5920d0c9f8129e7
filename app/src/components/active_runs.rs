//! What the studio is busy with, in the header, from any page.

use super::When;
use crate::api::{Run, RunKind};
use crate::calls::runs::list_runs;
use crate::format;
use leptos::prelude::*;

#[component]
pub fn ActiveRuns() -> impl IntoView {
    let runs = RwSignal::new(Vec::<Run>::new());
    let busy = Memo::new(move |_| runs.with(|runs| !runs.is_empty()));
    Effect::new(move |_| watch(runs));
    view! {
        <When holds=busy>
            <details class="active-runs">
                <summary>
                    <span class="pulse" aria-hidden="true"></span>
                    {move || runs.with(|runs| format::count(runs.len(), "job"))}
                </summary>
                <ul>{move || runs.with(|runs| runs.iter().map(entry).collect_view())}</ul>
            </details>
        </When>
    }
}

fn entry(run: &Run) -> impl IntoView + use<> {
    let percent = format::percent(f64::from(run.progress.done) / f64::from(run.progress.total.max(1)));
    view! {
        <li>
            <a href=href(run)>
                <span>{run.title.clone()}</span>
                <small>{format!("{} · {percent}", run.progress.phase)}</small>
            </a>
        </li>
    }
}

/// The page that shows a run.
pub fn href(run: &Run) -> String {
    match (run.kind, &run.comparison) {
        (RunKind::Train, _) => format!("/train/{}", run.id),
        (RunKind::Compare, Some(comparison)) => format!("/compare?comparison={comparison}"),
        _ => format!("/?run={}", run.id),
    }
}

/// Asks every few seconds while the page is looked at.
#[cfg(feature = "hydrate")]
fn watch(runs: RwSignal<Vec<Run>>) {
    const EVERY: std::time::Duration = std::time::Duration::from_secs(4);
    let ask = move || {
        if document().hidden() {
            return;
        }
        leptos::task::spawn_local(async move {
            if let Ok(active) = list_runs(true, 8).await
                && runs.with_untracked(|old| *old != active)
            {
                runs.set(active);
            }
        });
    };
    ask();
    if let Ok(timer) = set_interval_with_handle(ask, EVERY) {
        on_cleanup(move || timer.clear());
    }
}

/// Nobody waits on the server.
#[cfg(not(feature = "hydrate"))]
fn watch(_: RwSignal<Vec<Run>>) {
    _ = list_runs;
}
