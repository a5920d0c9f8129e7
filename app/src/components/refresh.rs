//! Progress for browsers without scripts: the page loads itself again while a run is active.

use leptos::prelude::*;

#[component]
pub fn RefreshWithoutScripts(#[prop(default = 3)] seconds: u32) -> impl IntoView {
    // As inner HTML, because with scripts on, a browser reads what is inside `noscript` as text and hydration would miss its elements.
    view! { <noscript inner_html=format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">")></noscript> }
}
