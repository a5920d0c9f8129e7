//! A page with nothing to show yet: a sentence, and something to do about it.

use super::Flourish;
use leptos::prelude::*;

#[component]
pub fn Empty(title: &'static str, children: Children) -> impl IntoView {
    view! {
        <div class="empty">
            <Flourish/>
            <h2>{title}</h2>
            {children()}
        </div>
    }
}
