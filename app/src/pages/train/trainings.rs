//! Trainings so far.

use crate::api::{Run, RunKind, RunState};
use crate::calls::runs::list_runs;
use crate::components::awaited;
use crate::format;
use leptos::prelude::*;

#[component]
pub fn Trainings() -> impl IntoView {
    let runs = Resource::new(|| (), |()| list_runs(false, 100));
    awaited(move || async move {
        let trainings: Vec<_> = runs.await.unwrap_or_default().into_iter().filter(|run| run.kind == RunKind::Train).take(12).collect();
        let list = view! {
            <section aria-labelledby="trainings-title">
                <h2 id="trainings-title">"Trainings"</h2>
                <ul class="run-list">{trainings.iter().map(entry).collect_view()}</ul>
            </section>
        };
        if trainings.is_empty() { ().into_any() } else { list.into_any() }
    })
}

fn entry(run: &Run) -> impl IntoView + use<> {
    let progress = &run.progress;
    let steps = format!("{} of {} steps", progress.done, progress.total);
    view! {
        <li>
            <a class="run-row" href=format!("/train/{}", run.id)>
                <strong>{run.title.clone()}</strong>
                <span class="state" data-state=state_word(run.state)>{state_word(run.state)}</span>
                <span class="hint">{steps}</span>
                <span class="hint">{format::date(run.created_at)}</span>
            </a>
        </li>
    }
}

pub fn state_word(state: RunState) -> &'static str {
    match state {
        RunState::Queued => "waiting",
        RunState::Running => "running",
        RunState::Done => "finished",
        RunState::Failed => "failed",
        RunState::Stopped => "stopped",
    }
}
