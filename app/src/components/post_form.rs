//! A form that posts by itself, and with scripts calls its server function and stays on the page.
//!
//! Leptos' `ActionForm` does the same, but is compiled anew for every server function and every set of attributes.

use leptos::ev::SubmitEvent;
use leptos::form::FromFormData;
use leptos::prelude::*;
use leptos::server_fn::ServerFn;
use serde::de::DeserializeOwned;

/// Where a form goes.
#[derive(Clone, Copy)]
pub struct Post {
    url: &'static str,
    send: Callback<SubmitEvent>,
}

/// To this server function.
pub fn to<F>(action: ServerAction<F>) -> Post
where
    F: ServerFn + DeserializeOwned + Clone + Send + Sync + 'static,
    F::Output: Send + Sync + 'static,
    F::Error: Send + Sync + 'static,
{
    let send = move |event: SubmitEvent| {
        // What cannot be read here is posted as it is, and refused by the server in words.
        if let Ok(input) = F::from_event(&event) {
            event.prevent_default();
            action.dispatch(input);
        }
    };
    Post { url: F::url(), send: Callback::new(send) }
}

#[component]
pub fn PostForm(
    to: Post,
    #[prop(optional)] id: Option<&'static str>,
    #[prop(optional)] class: &'static str,
    children: Children,
) -> impl IntoView {
    view! {
        <form id=id class=class action=to.url method="post" on:submit=move |event| to.send.run(event)>
            {children()}
        </form>
    }
    .into_any()
}
