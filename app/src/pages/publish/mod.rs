//! Publish: the card as it will look on the Hub, what goes along, and how far it is. One plain form: its two buttons work without scripts.

mod attempt;
mod card;
mod form;
mod published;

use crate::api::{AdapterId, PublishReview};
use crate::calls::publishing::get_publish_review;
use crate::components::{Missing, awaited, use_address_error};
use crate::forms::{PublishForm, read_query};
use attempt::Attempt;
use card::CardPreview;
use form::PublishFields;
use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::{use_params_map, use_query_map};
use published::PublishedList;

#[component]
pub fn PublishPage() -> impl IntoView {
    let (params, query) = (use_params_map(), use_query_map());
    let adapter = Memo::new(move |_| AdapterId(params.with(|params| params.get("adapter")).unwrap_or_default()));
    let typed = Memo::new(move |_| query.with(|query| read_query::<PublishForm>(&query.to_query_string())));
    // Grows when an attempt ends: then there is a publication to show.
    let ended = RwSignal::new(0u32);
    let review = Resource::new(move || (adapter.get(), typed.get(), ended.get()), |(adapter, typed, _)| get_publish_review(adapter, typed));
    let refused = use_address_error();
    let body = awaited(move || async move {
        match review.await {
            Ok(review) => view! { <Review review refused ended/> }.into_any(),
            Err(error) => view! {
                <Missing title="This adapter cannot be shown" error>
                    <p>
                        <a class="button primary" href="/adapters">"To the adapters"</a>
                    </p>
                </Missing>
            }
            .into_any(),
        }
    });
    view! {
        <Title text="Publish · Atelier"/>
        {body}
    }
    .into_any()
}

#[component]
fn Review(review: PublishReview, refused: Signal<Option<String>>, ended: RwSignal<u32>) -> impl IntoView {
    let (name, hub) = (review.adapter.name.clone(), review.hub.clone());
    let place = hub.split("://").last().unwrap_or_default().to_owned();
    view! {
        <header class="training-header">
            <p class="hint">
                <a href="/adapters">"Adapters"</a>
                " · to "
                {place}
            </p>
            <h1>{format!("Publish {name}")}</h1>
        </header>
        <Attempt adapter=review.adapter.id.clone() initial=review.state.clone() ended/>
        <PublishedList review=review.clone()/>
        <div class="publish">
            <PublishFields review=review.clone() refused/>
            <CardPreview card=review.card/>
        </div>
    }
    .into_any()
}
