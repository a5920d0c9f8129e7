//! A finished picture: large, with its recipe and what to do next.

use super::Desk;
use super::hidden_recipe::HiddenRecipe;
use crate::api::Picture;
use crate::components::{Icon, PictureFacts, PostForm, icon, post_to, write_prompt};
use crate::forms::{CompareForm, GenerateForm};
use leptos::prelude::*;

#[component]
pub fn Finished(picture: Picture) -> impl IntoView {
    view! {
        <figure class="work">
            <a class="frame" href=picture.url() rel="external" title="Open in full size">
                <img class="result" src=picture.url() alt=picture.prompt.clone() width=picture.width height=picture.height/>
            </a>
            <figcaption>
                <p class="work-title">{picture.prompt.clone()}</p>
                <Next picture=picture.clone()/>
                <PictureFacts picture/>
            </figcaption>
        </figure>
    }
    .into_any()
}

#[component]
fn Next(picture: Picture) -> impl IntoView {
    let desk = expect_context::<Desk>();
    let same = GenerateForm::of(&picture);
    let mut again = same.clone();
    again.drawing.seed.clear();
    let href = same.href();
    let vary = move |event: leptos::ev::MouseEvent| {
        event.prevent_default();
        desk.filling.set(same.clone());
        request_animation_frame(|| write_prompt(None));
    };
    view! {
        <div class="actions">
            <a class="button" href=format!("{}?download", picture.url()) download=format!("atelier-{}.png", picture.seed)>
                <Icon path=icon::DOWNLOAD/>
                "Download"
            </a>
            <PostForm to=post_to(desk.start)>
                <HiddenRecipe form=again/>
                <button type="submit" class="button" title="The same settings with a new seed">
                    <Icon path=icon::AGAIN/>
                    "Again"
                </button>
            </PostForm>
            <a class="button" href=href title="Keep this seed and change the words" on:click=vary>
                <Icon path=icon::PEN/>
                "Vary"
            </a>
            <a class="button" href=CompareForm::of(&picture).href() title="With and without an adapter, on this seed">
                <Icon path=icon::COLUMNS/>
                "Compare"
            </a>
        </div>
    }
    .into_any()
}
