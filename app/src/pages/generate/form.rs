//! The form: prompt, adapters, size, and the rest folded away.

use super::Desk;
use crate::api::{AdapterInfo, Studio};
use crate::components::{AdapterPicker, DrawingFields, ErrorNote, PostForm, PromptField, failure_or_address, post_to};
use leptos::prelude::*;

#[component]
pub fn GenerateFields(studio: Studio, adapters: Vec<AdapterInfo>) -> impl IntoView {
    let desk = expect_context::<Desk>();
    let pending = desk.start.pending();
    let fields = {
        let studio = studio.clone();
        move || {
            let form = desk.filling.get();
            view! {
                <PromptField initial=form.prompt placeholder="a lighthouse above a stormy sea at dusk"/>
                <AdapterPicker adapters=adapters.clone() chosen=form.adapters/>
                <DrawingFields initial=form.drawing studio=studio.clone() counted="Pictures" last_seed=desk.last_seed/>
            }
        }
    };
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
        <p class="hint studio-line">{format!("{} on {}", studio.model, studio.device)}</p>
    }
    .into_any()
}
