//! The way in: straight on; from a frame through a tab of its own, which tells a code.

use crate::forms::sign_in_href;
use leptos::prelude::*;

#[component]
pub fn Ways(framed: bool, again: bool, then: String) -> impl IntoView {
    let label = if again { "Sign in again" } else { "Sign in with Hugging Face" };
    let href = sign_in_href(&then, again);
    if !framed {
        return view! {
            <p>
                <a class="button primary" href=href rel="external">
                    {label}
                </a>
            </p>
        }
        .into_any();
    }
    Effect::new(|_| listen());
    view! {
        <ol class="steps">
            <li>
                <p>"This page is shown inside another one, where browsers keep sign-ins apart. So it is done in a tab of its own:"</p>
                <p>
                    <a class="button primary" href=format!("{href}&frame=1") target="_blank" rel="external opener">
                        {label}
                    </a>
                </p>
            </li>
            <li>
                <form id="code-form" class="form" action="/sign-in/code" method="post">
                    <input type="hidden" name="then" value=then/>
                    <div class="field">
                        <label for="code">"Code from that tab"</label>
                        <input type="text" id="code" name="code" required maxlength="12" autocomplete="off" spellcheck="false" aria-describedby="code-hint"/>
                        <p class="hint" id="code-hint">
                            "Often it comes by itself; else type what the tab shows."
                        </p>
                    </div>
                    <button type="submit" class="button">
                        "Go on"
                    </button>
                </form>
            </li>
        </ol>
    }
    .into_any()
}

/// The tab tells its code by itself, if the browser still lets it know who opened it.
#[cfg(feature = "hydrate")]
fn listen() {
    use super::code::PREFIX;
    use wasm_bindgen::JsCast;
    let heard = window_event_listener_untyped("message", |event| {
        let Some(event) = event.dyn_ref::<web_sys::MessageEvent>() else { return };
        // Only a page of our own may sign this one in.
        if window().location().origin().ok().as_deref() != Some(event.origin().as_str()) {
            return;
        }
        if let Some(code) = event.data().as_string().as_deref().and_then(|text| text.strip_prefix(PREFIX)) {
            submit(code);
        }
    });
    on_cleanup(move || heard.remove());
}

#[cfg(feature = "hydrate")]
fn submit(code: &str) {
    use wasm_bindgen::JsCast;
    let element = |id: &str| document().get_element_by_id(id);
    let (field, form) = (element("code"), element("code-form"));
    let field = field.and_then(|field| field.dyn_into::<web_sys::HtmlInputElement>().ok());
    let form = form.and_then(|form| form.dyn_into::<web_sys::HtmlFormElement>().ok());
    if let (Some(field), Some(form)) = (field, form) {
        field.set_value(code);
        _ = form.submit();
    }
}

/// Nobody speaks to the server's rendering.
#[cfg(not(feature = "hydrate"))]
fn listen() {}
