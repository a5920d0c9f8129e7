//! The seed: empty for a new one each time, the dice to draw one now, the lock to keep the last picture's.

use super::{Icon, icon};
use crate::api::limits::MAX_SEED;
use leptos::{html, prelude::*};

#[component]
pub fn SeedField(
    initial: String,
    /// The seed of the picture on show.
    #[prop(into)]
    last: Signal<Option<u64>>,
) -> impl IntoView {
    let field = NodeRef::<html::Input>::new();
    let write = move |value: String| {
        if let Some(field) = field.get_untracked() {
            field.set_value(&value);
        }
    };
    view! {
        <div class="field seed-field">
            <label for="seed">"Seed"</label>
            <div class="with-buttons">
                <input
                    type="text"
                    id="seed"
                    name="form[seed]"
                    value=initial
                    inputmode="numeric"
                    pattern="[0-9]*"
                    title=format!("A whole number from 0 to {MAX_SEED}, or empty")
                    placeholder="new each time"
                    autocomplete="off"
                    aria-describedby="seed-hint"
                    node_ref=field
                />
                <button type="button" class="icon-button needs-script" title="Draw a seed" aria-label="Draw a seed" on:click=move |_| write(drawn())>
                    <Icon path=icon::DICE/>
                </button>
                <button
                    type="button"
                    class="icon-button needs-script"
                    title="Keep the last seed"
                    aria-label="Keep the last seed"
                    disabled=move || last.get().is_none()
                    on:click=move |_| write(last.get_untracked().map(|seed| seed.to_string()).unwrap_or_default())
                >
                    <Icon path=icon::LOCK/>
                </button>
            </div>
            <p class="hint" id="seed-hint">"The same seed and settings make the same picture."</p>
        </div>
    }
}

/// A seed short enough to remember and to tell somebody.
fn drawn() -> String {
    #[cfg(feature = "hydrate")]
    return ((js_sys::Math::random() * 1e6) as u32).to_string();
    #[cfg(not(feature = "hydrate"))]
    String::new()
}
