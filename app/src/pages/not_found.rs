//! A page that does not exist.

use crate::api::ApiError;
use crate::components::Missing;
use leptos::prelude::*;
use leptos_meta::Title;

#[component]
pub fn NotFound() -> impl IntoView {
    view! {
        <Title text="Not found · Atelier"/>
        <Missing title="There is no such page" error=ApiError::new(404, "The address may be old or mistyped.")>
            <p>
                <a class="button primary" href="/">"Generate a picture"</a>
            </p>
        </Missing>
    }
    .into_any()
}
