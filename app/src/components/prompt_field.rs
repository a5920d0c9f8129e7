//! The prompt: a text area that counts and says when it is too long, before the server has to.

use crate::api::limits::MAX_PROMPT_CHARS;
use leptos::{html, prelude::*};

#[component]
pub fn PromptField(initial: String, placeholder: &'static str) -> impl IntoView {
    let typed = RwSignal::new(initial.chars().count());
    let field = NodeRef::<html::Textarea>::new();
    // What was typed before the page came alive is there already.
    Effect::new(move |_| {
        if let Some(field) = field.get() {
            typed.set(field.value().chars().count());
        }
    });
    let left = move || format!("{} of {MAX_PROMPT_CHARS} characters", typed.get());
    view! {
        <div class="field prompt-field">
            <label for="prompt">"Prompt"</label>
            <textarea
                id="prompt"
                name="form[prompt]"
                rows="4"
                required
                placeholder=placeholder
                aria-describedby="prompt-count"
                node_ref=field
                on:input:target=move |event| typed.set(event.target().value().chars().count())
            >
                {initial}
            </textarea>
            <p id="prompt-count" class="hint" class:over=move || is_over(typed.get())>
                {left}
            </p>
        </div>
    }
}

fn is_over(chars: usize) -> bool {
    chars > MAX_PROMPT_CHARS
}

/// Moves to the prompt; with `words`, puts them there as if they were typed. Everything else in the form stays.
#[cfg(feature = "hydrate")]
pub fn write_prompt(words: Option<&'static str>) {
    use wasm_bindgen::JsCast;
    let Some(prompt) = document().get_element_by_id("prompt").and_then(|prompt| prompt.dyn_into::<web_sys::HtmlTextAreaElement>().ok())
    else {
        return;
    };
    if let Some(words) = words {
        prompt.set_value(words);
        if let Ok(event) = web_sys::Event::new("input") {
            _ = prompt.dispatch_event(&event);
        }
    }
    _ = prompt.focus();
}

#[cfg(not(feature = "hydrate"))]
pub fn write_prompt(_: Option<&'static str>) {}
