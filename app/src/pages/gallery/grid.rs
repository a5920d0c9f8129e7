//! The pictures, newest first, and more of them on demand.

use super::{PAGE, address};
use crate::api::{Picture, PictureFilter};
use crate::calls::pictures::list_pictures;
use crate::components::{Empty, ErrorNote, PictureCard, When};
use leptos::prelude::*;

#[component]
pub fn Grid(filter: PictureFilter, pictures: Vec<Picture>) -> impl IntoView {
    if pictures.is_empty() {
        return view! { <Nothing filter/> }.into_any();
    }
    let shown = RwSignal::new(pictures);
    let each = filter.clone();
    view! {
        <ul class="picture-grid">
            <For each=move || shown.get() key=|picture| picture.id.clone() let:picture>
                <li>
                    <PictureCard href=address(&each, Some(("picture", &picture.id.0))) picture/>
                </li>
            </For>
        </ul>
        <More filter shown/>
    }
    .into_any()
}

/// A link to the next page; with scripts, the next page joins this one.
#[component]
fn More(filter: PictureFilter, shown: RwSignal<Vec<Picture>>) -> impl IntoView {
    let ended = RwSignal::new(shown.with_untracked(Vec::len) < PAGE as usize);
    let error = RwSignal::new(None);
    let last = move || shown.with(|pictures| pictures.last().map(|picture| picture.id.clone()));
    let next = StoredValue::new(filter);
    let href = move || next.with_value(|filter| address(filter, last().as_ref().map(|id| ("before", id.0.as_str()))));
    let load = move |event: leptos::ev::MouseEvent| {
        event.prevent_default();
        let filter = PictureFilter { before: untrack(last), ..next.get_value() };
        leptos::task::spawn_local(async move {
            match list_pictures(filter).await {
                Ok(more) => {
                    ended.try_set(more.len() < PAGE as usize);
                    shown.try_update(|pictures| pictures.extend(more));
                    error.try_set(None);
                }
                Err(refusal) => {
                    error.try_set(Some(refusal.message));
                }
            }
        });
    };
    view! {
        <ErrorNote message=error/>
        <When holds=Signal::derive(move || !ended.get())>
            <p class="load-more">
                <a class="button" href=href on:click=load>
                    "Load more"
                </a>
            </p>
        </When>
    }
}

#[component]
fn Nothing(filter: PictureFilter) -> impl IntoView {
    if filter.search.is_some() || filter.adapter.is_some() || filter.before.is_some() {
        return view! {
            <Empty title="Nothing found">
                <p>"No picture matches."</p>
                <p>
                    <a class="button" href="/gallery">"Show every picture"</a>
                </p>
            </Empty>
        }
        .into_any();
    }
    view! {
        <Empty title="The walls are bare">
            <p>"Every picture you draw hangs here, with its recipe."</p>
            <p>
                <a class="button primary" href="/">"Generate a picture"</a>
            </p>
        </Empty>
    }
    .into_any()
}
