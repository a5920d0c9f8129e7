//! Compare: the same prompt and seed, base against adapter: on a slider, side by side, and blind.

mod blind_round;
mod drawn;
mod earlier;
mod form;
mod grid;
mod slider;
mod tally;

use crate::api::ComparisonId;
use crate::calls::{
    adapters::list_adapters,
    comparisons::{StartComparison, get_comparison},
    studio::get_studio,
};
use crate::components::{ErrorNote, PageTitle, awaited};
use crate::forms::{CompareForm, read_query};
use drawn::Drawn;
use earlier::Earlier;
use form::CompareFields;
use leptos::prelude::*;
use leptos_router::hooks::use_query_map;

#[component]
pub fn ComparePage() -> impl IntoView {
    let query = use_query_map();
    let comparison = Memo::new(move |_| query.with(|query| query.get("comparison")).map(ComparisonId));
    // A finished comparison leaves the form as it was; a link with a recipe fills it.
    let filling = Memo::new(move |old: Option<&CompareForm>| {
        let typed = query.with(|query| read_query::<CompareForm>(&query.to_query_string()));
        if comparison.with(Option::is_some) { old.cloned().unwrap_or(typed) } else { typed }
    });
    let start = ServerAction::<StartComparison>::new();
    let studio = Resource::new(|| (), |()| get_studio());
    let adapters = Resource::new(|| (), |()| list_adapters());
    // Opened by its address, a comparison fills the form too.
    let opened = comparison.get_untracked();
    let original = Resource::new(|| (), move |()| original(opened.clone()));
    let form = awaited(move || async move {
        match (studio.await, adapters.await) {
            (Ok(studio), Ok(adapters)) => {
                let original = original.await;
                view! { <CompareFields start filling original studio adapters/> }.into_any()
            }
            (Err(error), _) | (_, Err(error)) => view! { <ErrorNote message=Some(error.message)/> }.into_any(),
        }
    });
    view! {
        <div class="workbench" class:with-run=move || comparison.with(Option::is_some)>
            <section class="panel" aria-label="What to compare">
                <PageTitle title="Compare" lead="One prompt, one seed: with the adapter and without."/>
                {form}
            </section>
            <section class="stage" aria-label="Comparison">
                {move || match comparison.get() {
                    Some(id) => view! { <Drawn id/> }.into_any(),
                    None => view! { <Earlier/> }.into_any(),
                }}
            </section>
        </div>
    }
    .into_any()
}

async fn original(opened: Option<ComparisonId>) -> CompareForm {
    match opened {
        Some(id) => get_comparison(id).await.map(|drawn| CompareForm::again(&drawn)).unwrap_or_default(),
        None => CompareForm::default(),
    }
}
