//! Generate: a prompt becomes a picture, watched while it appears.

mod form;
mod hidden_recipe;
mod recent;
mod result;
mod stage;

use crate::api::RunId;
use crate::calls::{adapters::list_adapters, pictures::StartGeneration, studio::get_studio};
use crate::components::{ErrorNote, PageTitle, awaited};
use crate::forms::{GenerateForm, read_query};
use form::GenerateFields;
use leptos::prelude::*;
use leptos_router::hooks::use_query_map;
use recent::Recent;
use stage::Stage;

/// What the page's parts share.
#[derive(Clone, Copy)]
struct Desk {
    start: ServerAction<StartGeneration>,
    /// What the form is filled with; setting it fills the form anew.
    filling: RwSignal<GenerateForm>,
    /// The seed of the picture on show.
    last_seed: RwSignal<Option<u64>>,
}

#[component]
pub fn GeneratePage() -> impl IntoView {
    let query = use_query_map();
    let run = Memo::new(move |_| query.with(|query| query.get("run")).map(RunId));
    let typed = Memo::new(move |_| query.with(|query| read_query::<GenerateForm>(&query.to_query_string())));
    let desk = Desk { start: ServerAction::new(), filling: RwSignal::new(typed.get_untracked()), last_seed: RwSignal::new(None) };
    provide_context(desk);
    refill_from_links(desk, run, typed);

    let studio = Resource::new(|| (), |()| get_studio());
    let adapters = Resource::new(|| (), |()| list_adapters());
    let form = awaited(move || async move {
        match (studio.await, adapters.await) {
            (Ok(studio), Ok(adapters)) => view! { <GenerateFields studio adapters/> }.into_any(),
            (Err(error), _) | (_, Err(error)) => view! { <ErrorNote message=Some(error.message)/> }.into_any(),
        }
    });
    view! {
        <div class="workbench" class:with-run=move || run.get().is_some()>
            <section class="panel" aria-label="What to draw">
                <PageTitle title="Generate"/>
                {form}
            </section>
            <section class="stage" aria-label="Picture">
                {move || match run.get() {
                    Some(id) => view! { <Stage id/> }.into_any(),
                    None => view! { <Recent/> }.into_any(),
                }}
            </section>
        </div>
    }
    .into_any()
}

/// A link with a recipe fills the form; the landing after a start of one's own leaves alone what is being typed meanwhile.
fn refill_from_links(desk: Desk, run: Memo<Option<RunId>>, typed: Memo<GenerateForm>) {
    Effect::new(move |before: Option<()>| {
        let (run, typed) = (run.get(), typed.get());
        let started = desk.start.value().with_untracked(|value| value.as_ref().and_then(|value| value.as_ref().ok().cloned()));
        let own = run.is_some() && run == started;
        if before.is_some() && !own && typed != GenerateForm::default() {
            desk.filling.set(typed);
        }
    });
}
