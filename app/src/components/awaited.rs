//! A part of a page that waits for its data: rendered whole on the server; in the browser a skeleton comes first, and what is there stays
//! while newer data is on its way.

use leptos::prelude::*;
use std::{future::Future, pin::Pin, sync::Arc};

type Part = Pin<Box<dyn Future<Output = AnyView> + Send>>;

/// `load` runs again when a resource that it awaits changes, and several times on the server: what it shows must not make resources of
/// its own, whose numbers would then differ between server and browser.
pub fn awaited<F>(load: impl Fn() -> F + Send + Sync + 'static) -> AnyView
where
    F: Future<Output = AnyView> + Send + 'static,
{
    boundary(Arc::new(move || Box::pin(load())))
}

/// Apart from `awaited`, so that it is compiled once.
fn boundary(load: Arc<dyn Fn() -> Part + Send + Sync>) -> AnyView {
    let part = move || Suspend::new(load());
    view! { <Transition fallback=|| view! { <div class="skeleton" aria-hidden="true"></div> }>{part}</Transition> }.into_any()
}
