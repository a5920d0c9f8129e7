//! In the tab that a frame opened: signed in here, and a code for there.

use leptos::prelude::*;

/// Before a code in a message between windows.
#[cfg(feature = "hydrate")]
pub const PREFIX: &str = "atelier-sign-in:";

#[component]
pub fn HandedOver(code: String, then: String) -> impl IntoView {
    let told = code.clone();
    Effect::new(move |_| tell(&told));
    view! {
        <p class="lead">"You are signed in in this tab. The page that you came from goes on by itself; if it does not, type this code there:"</p>
        <p class="code" id="handover-code">
            {code}
        </p>
        <p class="hint">"It serves once, for three minutes. Tell it to nobody: whoever types it is signed in as you."</p>
        <p>
            <a class="button" href=then rel="external">
                "Or go on in this tab"
            </a>
        </p>
    }
    .into_any()
}

/// To the frame that opened this tab, if it is a page of our own: browsers deliver it to nobody else.
#[cfg(feature = "hydrate")]
fn tell(code: &str) {
    use wasm_bindgen::JsCast;
    let opener = window().opener().ok().filter(|opener| !opener.is_null() && !opener.is_undefined());
    if let (Some(opener), Ok(origin)) = (opener, window().location().origin()) {
        // Not `dyn_into`: another page's window is no instance of this page's `Window`.
        _ = opener.unchecked_into::<web_sys::Window>().post_message(&format!("{PREFIX}{code}").into(), &origin);
    }
}

#[cfg(not(feature = "hydrate"))]
fn tell(_: &str) {}
