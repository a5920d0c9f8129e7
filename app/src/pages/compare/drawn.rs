//! A comparison: progress while it is drawn, then three ways to look at it.

use super::blind_round::BlindRound;
use super::grid::Grid;
use super::slider::Slider;
use super::tally::TallyLine;
use crate::api::{Comparison, ComparisonId, RunState};
use crate::calls::comparisons::get_comparison;
use crate::calls::runs::RunView;
use crate::components::{ErrorNote, Missing, ProgressBar, RefreshWithoutScripts, StopButton, When, awaited};
use crate::forms::CompareForm;
use crate::live::Feed;
use leptos::prelude::*;
use leptos_router::hooks::use_query_map;

#[component]
pub fn Drawn(id: ComparisonId) -> impl IntoView {
    let comparison = {
        let id = id.clone();
        Resource::new(move || id.clone(), get_comparison)
    };
    let views = awaited(move || async move {
        match comparison.await {
            Ok(drawn) => view! { <Views drawn/> }.into_any(),
            Err(error) => view! {
                <Missing title="This comparison cannot be shown" error>
                    <p>
                        <a class="button" href="/compare">"Compare something else"</a>
                    </p>
                </Missing>
            }
            .into_any(),
        }
    });
    view! {
        {views}
        <TallyLine id/>
    }
}

#[component]
fn Views(drawn: Comparison) -> impl IntoView {
    let run = drawn.run.id.clone();
    let feed = Feed::of_run(RunView { run: drawn.run.clone(), pictures: Vec::new() });
    let again = CompareForm::again(&drawn).href();
    let prompt = drawn.request.prompt.clone();
    let comparison = RwSignal::new(drawn);
    fetch_new_cells(feed, comparison);
    let active = Memo::new(move |_| feed.is_active());
    let failed =
        move || feed.run.with(|run| (run.state == RunState::Failed).then(|| run.error.clone().unwrap_or_else(|| "The run failed.".into())));
    view! {
        <header class="stage-header">
            <h2>{move || comparison.with(|drawn| drawn.adapter_name.clone())}</h2>
            <p class="work-title">{prompt}</p>
        </header>
        <When holds=active>
            <RefreshWithoutScripts/>
            <ProgressBar run=feed.run link=feed.link/>
            <StopButton id=run.clone() label="Cancel"/>
        </When>
        <ErrorNote message=Signal::derive(failed)/>
        <ViewTabs comparison/>
        <Shown comparison active/>
        <p>
            <a href=again>"Change this comparison"</a>
        </p>
    }
    .into_any()
}

/// Each finished picture fills a cell: the grid is asked for again.
fn fetch_new_cells(feed: Feed, comparison: RwSignal<Comparison>) {
    Effect::new(move |before: Option<(usize, bool)>| {
        let now = feed.run.with(|run| (run.pictures.len(), run.state.is_active()));
        let more = feed.pictures.with(Vec::len);
        let now = (now.0.max(more), now.1);
        if before.is_some_and(|before| before != now) {
            let id = comparison.with_untracked(|drawn| drawn.id.clone());
            leptos::task::spawn_local(async move {
                if let Ok(drawn) = get_comparison(id).await {
                    comparison.try_set(drawn);
                }
            });
        }
        now
    });
}

/// Links, so that a view has an address and works without scripts.
#[component]
fn ViewTabs(comparison: RwSignal<Comparison>) -> impl IntoView {
    let shown = use_view();
    let tab = move |view: &'static str, label: &'static str| {
        let href = move || comparison.with(|drawn| format!("/compare?comparison={}&view={view}", drawn.id));
        let current = move || (shown.get() == view).then_some("true");
        view! { <a href=href aria-current=current>{label}</a> }
    };
    view! { <nav class="tabs" aria-label="Ways to compare">{tab("slider", "Slider")} {tab("grid", "Side by side")} {tab("blind", "Blind round")}</nav> }
}

#[component]
fn Shown(comparison: RwSignal<Comparison>, active: Memo<bool>) -> impl IntoView {
    let shown = use_view();
    move || match shown.get().as_str() {
        "grid" => view! { <Grid comparison/> }.into_any(),
        "blind" => view! { <BlindRound comparison active/> }.into_any(),
        _ => view! { <Slider comparison/> }.into_any(),
    }
}

fn use_view() -> Memo<String> {
    let query = use_query_map();
    Memo::new(move |_| query.with(|query| query.get("view")).unwrap_or_else(|| "slider".into()))
}
