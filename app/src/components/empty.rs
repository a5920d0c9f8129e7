//! A page with nothing to show yet: a sentence, and something to do about it.

use super::Flourish;
use crate::api::ApiError;
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

/// In the place of what was asked for and cannot be shown. The page answers with the refusal's status.
#[component]
pub fn Missing(title: &'static str, error: ApiError, children: Children) -> impl IntoView {
    #[cfg(feature = "ssr")]
    crate::calls::context::answer_with(error.status);
    view! {
        <Empty title>
            <p>{error.message}</p>
            {children()}
        </Empty>
    }
    .into_any()
}
