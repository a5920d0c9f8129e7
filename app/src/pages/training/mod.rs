//! One training: its loss curve, its samples, and what to do with it.

mod controls;
mod samples;
mod settings;

use crate::api::{RunId, RunState, TrainingDetail};
use crate::calls::runs::ResumeRun;
use crate::calls::training::get_training;
use crate::components::{ErrorNote, LossCurve, Missing, ProgressBar, RefreshWithoutScripts, When, awaited};
use crate::live::Feed;
use controls::Controls;
use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::use_params_map;
use samples::Samples;
use settings::SettingsList;

#[component]
pub fn TrainingPage() -> impl IntoView {
    let params = use_params_map();
    let resume = ServerAction::<ResumeRun>::new();
    let run = Memo::new(move |_| RunId(params.with(|params| params.get("run")).unwrap_or_default()));
    let detail = Resource::new(move || (run.get(), resume.version().get()), |(run, _)| get_training(run));
    let body = awaited(move || async move {
        match detail.await {
            Ok(detail) => view! { <Training detail resume/> }.into_any(),
            Err(error) => view! {
                <Missing title="This training cannot be shown" error>
                    <p>
                        <a class="button primary" href="/train">"To the trainings"</a>
                    </p>
                </Missing>
            }
            .into_any(),
        }
    });
    view! {
        <Title text="Training · Atelier"/>
        {body}
    }
    .into_any()
}

#[component]
fn Training(detail: TrainingDetail, resume: ServerAction<ResumeRun>) -> impl IntoView {
    let feed = Feed::of_training(&detail);
    let active = Memo::new(move |_| feed.is_active());
    let steps = Memo::new(move |_| detail.request.settings.steps.unwrap_or_else(|| feed.run.with(|run| run.progress.total)));
    let set = format!("/train?dataset={}", detail.request.dataset);
    view! {
        <header class="training-header">
            <p class="hint">
                <a href="/train">"Train"</a>
                " · on "
                <a href=set>{detail.dataset_name.clone()}</a>
            </p>
            <h1>{detail.request.name.clone()}</h1>
        </header>
        <div class="training">
            <section class="training-main" aria-label="Progress">
                <When holds=active>
                    <RefreshWithoutScripts seconds=5/>
                    <ProgressBar run=feed.run link=feed.link/>
                </When>
                <Outcome feed/>
                <Controls feed adapter=detail.adapter.clone() last_checkpoint=detail.last_checkpoint resume/>
                <LossCurve losses=feed.losses steps=steps/>
                <SettingsList detail=detail.clone()/>
            </section>
            <Samples feed/>
        </div>
    }
    .into_any()
}

#[component]
fn Outcome(feed: Feed) -> impl IntoView {
    let failed = move || {
        feed.run.with(|run| {
            let reason = || run.error.clone().unwrap_or_else(|| "The training failed.".into());
            (run.state == RunState::Failed).then(|| format!("{} You can resume it from its last checkpoint.", reason()))
        })
    };
    let ended = move || {
        feed.run.with(|run| match run.state {
            RunState::Done => Some("Finished. The adapter is ready to use."),
            RunState::Stopped => Some("Stopped. What was learned up to the last checkpoint is kept; resume to go on from there."),
            _ => None,
        })
    };
    view! {
        <ErrorNote message=Signal::derive(failed)/>
        <div role="status">{move || ended().map(|words| view! { <p class="note">{words}</p> })}</div>
    }
}
