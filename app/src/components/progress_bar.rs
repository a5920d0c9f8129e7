//! How far a run is: a bar, the phase, and times.

use crate::api::{Progress, Run, RunState};
use crate::format::duration;
use crate::live::Link;
use leptos::prelude::*;

#[component]
pub fn ProgressBar(#[prop(into)] run: Signal<Run>, #[prop(into)] link: Signal<Link>) -> impl IntoView {
    let progress = Signal::derive(move || run.with(|run| run.progress.clone()));
    let known = move || progress.with(|progress| (progress.total > 0).then(|| progress.done.to_string()));
    view! {
        <div class="progress">
            <progress aria-label="Progress" max=move || progress.with(|progress| progress.total.max(1).to_string()) value=known></progress>
            <p class="progress-words">
                <span>{move || progress.with(steps)}</span>
                <span class="progress-times">{move || progress.with(times)}</span>
            </p>
            // Spoken at quarters only: every step would never let a listener finish a sentence.
            <p class="visually-hidden" role="status">{move || run.with(milestone)}</p>
            <p class="link-note" aria-live="polite">{move || link_words(link.get())}</p>
        </div>
    }
    .into_any()
}

fn steps(progress: &Progress) -> String {
    let phase = capitalised(&progress.phase);
    if progress.total == 0 { phase } else { format!("{phase} · {} of {}", progress.done, progress.total) }
}

fn times(progress: &Progress) -> String {
    let elapsed = format!("{} elapsed", duration(progress.elapsed_s));
    match progress.remaining_s {
        Some(remaining) => format!("{elapsed} · about {} left", duration(remaining)),
        None => elapsed,
    }
}

fn milestone(run: &Run) -> String {
    let progress = &run.progress;
    match run.state {
        RunState::Queued => "Waiting for its turn".into(),
        RunState::Running => match (progress.done * 4).checked_div(progress.total) {
            Some(quarters) => format!("{}, {} per cent", capitalised(&progress.phase), quarters * 25),
            None => capitalised(&progress.phase),
        },
        RunState::Done => "Finished".into(),
        RunState::Failed => "Failed".into(),
        RunState::Stopped => "Stopped".into(),
    }
}

fn link_words(link: Link) -> Option<&'static str> {
    match link {
        Link::Live => None,
        Link::Lost => Some("Reconnecting… the work goes on meanwhile."),
        Link::Gone => Some("The server no longer knows this run. What was finished is in the gallery and among the adapters."),
    }
}

fn capitalised(phase: &str) -> String {
    let mut letters = phase.chars();
    letters.next().map_or_else(|| "Waiting".into(), |first| first.to_uppercase().chain(letters).collect())
}
