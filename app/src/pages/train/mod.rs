//! Train: pictures of a style become an adapter.

mod advanced;
mod caption;
mod dataset;
mod form;
mod prediction;
mod recipes;
mod sources;
mod trainings;

use crate::api::DatasetId;
use crate::components::PageTitle;
use crate::forms::{TrainForm, read_query};
use dataset::DatasetDesk;
use leptos::prelude::*;
use leptos_router::hooks::use_query_map;
use sources::Sources;
use trainings::Trainings;

#[component]
pub fn TrainPage() -> impl IntoView {
    let query = use_query_map();
    let typed = move || query.with(|query| read_query::<TrainForm>(&query.to_query_string()));
    let dataset = Memo::new(move |_| query.with(|query| query.get("dataset")).filter(|id| !id.is_empty()).map(DatasetId));
    view! {
        <PageTitle title="Train" lead="Five to thirty pictures of one style become an adapter: a small file that teaches the model to paint that way."/>
        {move || match dataset.get() {
            Some(id) => view! { <DatasetDesk id typed=untrack(typed)/> }.into_any(),
            None => view! { <Sources/> }.into_any(),
        }}
        <Trainings/>
    }
    .into_any()
}
