//! What went wrong and what to do, announced to screen readers as it appears.

use crate::api::ApiError;
use leptos::prelude::*;
use leptos::server_fn::ServerFn;
use leptos_router::hooks::use_query_map;

/// An alert beside a form. The live region is always there, so that filling it is noticed.
#[component]
pub fn ErrorNote(#[prop(into)] message: Signal<Option<String>>) -> impl IntoView {
    view! {
        <div class="error-note" role="alert">
            {move || message.get().map(|message| view! { <p>{message}</p> })}
        </div>
    }
}

/// The sentence an action was last refused with.
pub fn failure<F>(action: ServerAction<F>) -> Signal<Option<String>>
where
    F: ServerFn<Error = ApiError> + Clone + Send + Sync + 'static,
    F::Output: Clone + Send + Sync + 'static,
{
    let value = action.value();
    Signal::derive(move || value.with(|value| value.as_ref()?.as_ref().err().map(|error| error.message.clone())))
}

/// The same; before the action was ever tried here, the sentence that a plain form left in the address.
pub fn failure_or_address<F>(action: ServerAction<F>) -> Signal<Option<String>>
where
    F: ServerFn<Error = ApiError> + Clone + Send + Sync + 'static,
    F::Output: Clone + Send + Sync + 'static,
{
    let (failed, version, address) = (failure(action), action.version(), use_address_error());
    Signal::derive(move || failed.get().or_else(|| if version.get() == 0 { address.get() } else { None }))
}

/// `?error=…`
pub fn use_address_error() -> Signal<Option<String>> {
    let query = use_query_map();
    Signal::derive(move || query.with(|query| query.get("error")))
}
