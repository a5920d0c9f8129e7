//! The form: adapter, prompt, strengths, and how to draw.

use crate::api::{AdapterInfo, Studio};
use crate::calls::comparisons::StartComparison;
use crate::components::{DrawingFields, ErrorNote, PostForm, PromptField, anew, failure_or_address, post_to};
use crate::forms::CompareForm;
use leptos::prelude::*;

/// Strengths that are offered; others come with a link.
const STRENGTHS: [&str; 6] = ["0.25", "0.5", "0.75", "1", "1.25", "1.5"];

#[component]
pub fn CompareFields(
    start: ServerAction<StartComparison>,
    filling: Memo<CompareForm>,
    original: CompareForm,
    studio: Studio,
    adapters: Vec<AdapterInfo>,
) -> impl IntoView {
    if adapters.is_empty() {
        return view! {
            <div class="note">
                <p>"There is no adapter to compare yet."</p>
                <p>
                    <a class="button primary" href="/train">"Train one"</a>
                </p>
            </div>
        }
        .into_any();
    }
    let pending = start.pending();
    let form = move || Some(filling.get()).filter(|form| *form != CompareForm::default()).unwrap_or_else(|| original.clone());
    let fields = anew(form, move |form| {
        view! {
            <AdapterField adapters=adapters.clone() chosen=form.adapter/>
            <PromptField initial=form.prompt placeholder="a quiet harbour at sunrise"/>
            <StrengthField chosen=form.scales/>
            <DrawingFields initial=form.drawing studio=studio.clone() counted="Seeds" last_seed=Signal::stored(None)/>
        }
        .into_any()
    });
    view! {
        <PostForm to=post_to(start) id="compare-form" class="form">
            {fields}
            <ErrorNote message=failure_or_address(start)/>
            <div class="form-actions">
                <button type="submit" class="button primary" disabled=move || pending.get()>
                    "Compare"
                </button>
            </div>
        </PostForm>
    }
    .into_any()
}

#[component]
fn AdapterField(adapters: Vec<AdapterInfo>, chosen: String) -> impl IntoView {
    let options = adapters.into_iter().map(|adapter| {
        let selected = adapter.id.0 == chosen;
        view! { <option value=adapter.id.0 selected=selected>{adapter.name}</option> }
    });
    view! {
        <div class="field">
            <label for="adapter">"Adapter"</label>
            <select id="adapter" name="form[adapter]" required>
                {options.collect_view()}
            </select>
        </div>
    }
}

#[component]
fn StrengthField(chosen: Vec<String>) -> impl IntoView {
    let chosen = if chosen.is_empty() { vec!["1".to_owned()] } else { chosen };
    let others = chosen.iter().filter(|scale| !STRENGTHS.contains(&scale.as_str())).cloned();
    let offered: Vec<String> = STRENGTHS.map(str::to_owned).into_iter().chain(others).collect();
    let choices = offered.into_iter().map(|scale| {
        let checked = chosen.contains(&scale);
        view! {
            <label>
                <input type="checkbox" name="form[scales][]" value=scale.clone() checked=checked/>
                <span>{scale}</span>
            </label>
        }
    });
    view! {
        <fieldset class="field segments">
            <legend>"Strengths beside the base"</legend>
            <div>{choices.collect_view()}</div>
        </fieldset>
    }
}
