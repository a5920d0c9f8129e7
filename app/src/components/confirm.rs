//! A step before what cannot be undone: opens in place, works without scripts.

use super::{Icon, icon};
use leptos::prelude::*;

/// `children` is the form that does it.
#[component]
pub fn Confirm(
    /// On the closed button, such as `Delete`.
    label: &'static str,
    /// What will be lost, in a sentence.
    #[prop(into)]
    warning: String,
    children: Children,
) -> impl IntoView {
    view! {
        <details class="confirm">
            <summary class="button quiet">
                <Icon path=icon::TRASH/>
                {label}
            </summary>
            <div class="confirm-body">
                <p>{warning}</p>
                {children()}
            </div>
        </details>
    }
}
