//! The stage with a run on it: live previews, progress, then the pictures.

use super::Desk;
use super::result::Finished;
use crate::api::{ApiError, RunId, RunState};
use crate::calls::runs::{RunView, get_run};
use crate::components::{ErrorNote, Missing, ProgressBar, RefreshWithoutScripts, StopButton, When, awaited};
use crate::live::Feed;
use leptos::prelude::*;

#[component]
pub fn Stage(id: RunId) -> impl IntoView {
    let view = Resource::new(move || id.clone(), get_run);
    awaited(move || async move {
        match view.await {
            Ok(view) => view! { <Live view/> }.into_any(),
            Err(error) => view! { <Lost error/> }.into_any(),
        }
    })
}

#[component]
fn Live(view: RunView) -> impl IntoView {
    let desk = expect_context::<Desk>();
    let run = view.run.id.clone();
    let feed = Feed::of_run(view);
    Effect::new(move |_| feed.pictures.with(|pictures| desk.last_seed.set(pictures.last().map(|picture| picture.seed))));
    let active = Memo::new(move |_| feed.is_active());
    view! {
        <When holds=active>
            <RefreshWithoutScripts/>
            <ProgressBar run=feed.run link=feed.link/>
            <StopButton id=run.clone() label="Cancel"/>
        </When>
        <Outcome feed/>
        <div class="easel">
            <When holds=active>
                <InTheMaking feed/>
            </When>
            <For each=move || feed.pictures.get() key=|picture| picture.id.clone() let:picture>
                <Finished picture/>
            </For>
        </div>
    }
    .into_any()
}

/// Frames for pictures that are still being drawn; one empty frame until the first preview comes.
#[component]
fn InTheMaking(feed: Feed) -> impl IntoView {
    let coming = Memo::new(move |_| {
        let done = feed.pictures.with(Vec::len) as u32;
        feed.previews.with(|previews| previews.range(done..).map(|(index, _)| *index).collect::<Vec<_>>())
    });
    let preview = move |index| {
        let src = move || feed.previews.with(|previews| previews.get(&index).cloned());
        view! {
            <div class="frame drawing">
                <img class="preview" src=src alt="The picture so far"/>
            </div>
        }
    };
    view! {
        {move || {
            let coming = coming.get();
            if coming.is_empty() {
                view! { <div class="frame waiting"></div> }.into_any()
            } else {
                coming.into_iter().map(preview).collect_view().into_any()
            }
        }}
    }
}

/// What to say when a run ended otherwise than with pictures.
#[component]
fn Outcome(feed: Feed) -> impl IntoView {
    let words = move || {
        feed.run.with(|run| match run.state {
            RunState::Failed => {
                let reason = run.error.clone().unwrap_or_else(|| "The run failed.".into());
                Some(format!("{reason} Your settings are still in the form."))
            }
            _ => None,
        })
    };
    let stopped = move || feed.run.with(|run| run.state == RunState::Stopped);
    view! {
        <ErrorNote message=Signal::derive(words)/>
        <When holds=Signal::derive(stopped)>
            <p class="note">"Cancelled. Pictures that were finished are kept; press Generate to draw again."</p>
        </When>
    }
}

#[component]
fn Lost(error: ApiError) -> impl IntoView {
    view! {
        <Missing title="This run cannot be shown" error>
            <p>
                <a class="button" href="/gallery">"Open the gallery"</a>
            </p>
        </Missing>
    }
}
