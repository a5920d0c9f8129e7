//! A page that does not exist.

use crate::components::Empty;
use leptos::prelude::*;
use leptos_meta::Title;

#[component]
pub fn NotFound() -> impl IntoView {
    #[cfg(feature = "ssr")]
    if let Some(response) = use_context::<leptos_axum::ResponseOptions>() {
        response.set_status(leptos::server_fn::http_export::StatusCode::NOT_FOUND);
    }
    view! {
        <Title text="Not found · Atelier"/>
        <Empty title="There is no such page">
            <p>"The address may be old or mistyped."</p>
            <p>
                <a class="button primary" href="/">"Generate a picture"</a>
            </p>
        </Empty>
    }
    .into_any()
}
