//! A picture among others.

use crate::api::Picture;
use leptos::prelude::*;

/// `href` leads to it, large.
#[component]
pub fn PictureCard(picture: Picture, href: String) -> impl IntoView {
    view! {
        <a class="picture-card" href=href attr:data-id=picture.id.0.clone()>
            <img src=picture.thumb_url() width=picture.width height=picture.height alt="" loading="lazy" decoding="async"/>
            <span class="picture-card-words">{picture.prompt.clone()}</span>
        </a>
    }
}
