//! Shown while something holds. Leptos' `Show`, compiled once.

use leptos::prelude::*;

#[component]
pub fn When(#[prop(into)] holds: Signal<bool>, children: ChildrenFn) -> impl IntoView {
    let holds = Memo::new(move |_| holds.get());
    (move || holds.get().then(|| children())).into_any()
}
