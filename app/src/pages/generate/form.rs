//! The form: prompt, adapters, size, and the rest folded away.

use super::Desk;
use crate::api::{AdapterInfo, Studio};
use crate::components::{AdapterPicker, DrawingFields, ErrorNote, PostForm, PromptField, anew, failure_or_address, post_to};
use leptos::prelude::*;

#[component]
pub fn GenerateFields(studio: Studio, adapters: Vec<AdapterInfo>) -> impl IntoView {
    let desk = expect_context::<Desk>();
    let pending = desk.start.pending();
    let line = format!("{} on {}", studio.model, studio.device);
    let fields = anew(
        move || desk.filling.get(),
        move |form| {
            view! {
                <PromptField initial=form.prompt placeholder="a lighthouse above a stormy sea at dusk"/>
                <AdapterPicker adapters=adapters.clone() chosen=form.adapters/>
                <DrawingFields initial=form.drawing studio=studio.clone() counted="Pictures" last_seed=desk.last_seed/>
            }
            .into_any()
        },
    );
    view! {
        <PostForm to=post_to(desk.start) id="generate-form" class="form">
            {fields}
            <ErrorNote message=failure_or_address(desk.start)/>
            <div class="form-actions">
                <button type="submit" class="button primary" disabled=move || pending.get()>
                    "Generate"
                </button>
            </div>
        </PostForm>
        <p class="hint studio-line">{line}</p>
    }
    .into_any()
}
