//! The stage before anything is drawn: ideas, and the latest pictures.

use crate::api::{Picture, PictureFilter};
use crate::calls::pictures::list_pictures;
use crate::components::{Empty, PictureCard, awaited, write_prompt};
use crate::forms::GenerateForm;
use leptos::prelude::*;

/// Scenes that the embedded model knows well.
const IDEAS: [&str; 6] = [
    "sailing boats in a harbour at sunrise",
    "a lily pond under willows",
    "a woman in profile with flowers in her hair",
    "haystacks in evening light",
    "a village street in the snow",
    "a lighthouse above a stormy sea",
];

#[component]
pub fn Recent() -> impl IntoView {
    let latest = Resource::new(|| (), |()| list_pictures(PictureFilter { limit: 6, ..PictureFilter::default() }));
    awaited(move || async move {
        match latest.await {
            Ok(pictures) if !pictures.is_empty() => view! { <Latest pictures/> }.into_any(),
            _ => view! { <Invitation/> }.into_any(),
        }
    })
}

#[component]
fn Invitation() -> impl IntoView {
    view! {
        <Empty title="An empty easel">
            <p>"Describe a picture and press Generate. Or begin with one of these:"</p>
            <Ideas/>
        </Empty>
    }
}

#[component]
fn Latest(pictures: Vec<Picture>) -> impl IntoView {
    let cards = pictures.into_iter().map(|picture| {
        let href = GenerateForm::of(&picture).href() + &format!("&run={}", picture.run);
        view! { <li><PictureCard picture href/></li> }
    });
    view! {
        <h2>"Latest pictures"</h2>
        <ul class="picture-grid">{cards.collect_view()}</ul>
        <p class="ideas-title">"Or begin with one of these:"</p>
        <Ideas/>
    }
}

#[component]
fn Ideas() -> impl IntoView {
    let idea = |prompt: &'static str| {
        let href = GenerateForm { prompt: prompt.into(), ..GenerateForm::default() }.href();
        let fill = move |event: leptos::ev::MouseEvent| {
            event.prevent_default();
            write_prompt(Some(prompt));
        };
        view! { <li><a class="chip" href=href on:click=fill>{prompt}</a></li> }
    };
    view! { <ul class="ideas">{IDEAS.map(idea).collect_view()}</ul> }
}
