//! The training form: name, recipe, what is changed in it, and what it will take.

use super::advanced::Advanced;
use super::prediction::PredictionNote;
use super::recipes::RecipeCards;
use crate::api::{DatasetInfo, RecipeInfo, limits::MAX_NAME_CHARS};
use crate::calls::training::{StartTraining, list_recipes};
use crate::components::{ErrorNote, PostForm, awaited, failure_or_address, post_to};
use crate::forms::TrainForm;
use leptos::prelude::*;

#[component]
pub fn TrainFields(set: DatasetInfo, typed: TrainForm) -> impl IntoView {
    let recipes = Resource::new(|| (), |()| list_recipes());
    awaited(move || {
        let (set, typed) = (set.clone(), typed.clone());
        async move {
            match recipes.await {
                Ok(recipes) => view! { <Form set typed recipes/> }.into_any(),
                Err(error) => view! { <ErrorNote message=Some(error.message)/> }.into_any(),
            }
        }
    })
}

#[component]
fn Form(set: DatasetInfo, typed: TrainForm, recipes: Vec<RecipeInfo>) -> impl IntoView {
    let typed = completed(typed, &set, &recipes);
    let start = ServerAction::<StartTraining>::new();
    let pending = start.pending();
    // The form as it is now, for the prediction and the recipe's values in empty fields.
    let current = RwSignal::new(typed.clone());
    let settings = {
        let recipes = recipes.clone();
        Memo::new(move |_| {
            let chosen = current.with(|form| form.recipe.clone());
            recipes.iter().find(|recipe| recipe.name == chosen).map(|recipe| recipe.settings.clone()).unwrap_or_default()
        })
    };
    let empty = set.items.is_empty();
    view! {
        <PostForm to=post_to(start) id="train-form">
            <div class="form" on:input=move |_| read_soon(current)>
            <input type="hidden" name="form[dataset]" value=set.id.0/>
            <div class="field">
                <label for="adapter-name">"Name of the adapter"</label>
                <input
                    type="text"
                    id="adapter-name"
                    name="form[name]"
                    value=typed.name.clone()
                    required
                    maxlength=MAX_NAME_CHARS.to_string()
                    autocomplete="off"
                />
            </div>
            <RecipeCards recipes chosen=typed.recipe.clone()/>
            <Advanced typed settings/>
            <PredictionNote current/>
            <ErrorNote message=failure_or_address(start)/>
            <div class="form-actions">
                <button type="submit" class="button primary" disabled=move || empty || pending.get()>
                    "Start training"
                </button>
            </div>
            </div>
        </PostForm>
    }
    .into_any()
}

/// A name and a recipe to begin with.
fn completed(mut typed: TrainForm, set: &DatasetInfo, recipes: &[RecipeInfo]) -> TrainForm {
    typed.dataset = set.id.0.clone();
    if typed.name.is_empty() {
        typed.name = set.name.chars().take(MAX_NAME_CHARS).collect();
    }
    if !recipes.iter().any(|recipe| recipe.name == typed.recipe) {
        typed.recipe = recipes.first().map(|recipe| recipe.name.clone()).unwrap_or_default();
    }
    typed
}

/// Waits for a pause in the typing: a prediction for every key would be noise.
#[cfg(feature = "hydrate")]
fn read_soon(current: RwSignal<TrainForm>) {
    use leptos::form::FromFormData;
    use wasm_bindgen::JsCast;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(350);
    thread_local! {
        static WAITING: std::cell::Cell<Option<TimeoutHandle>> = const { std::cell::Cell::new(None) };
    }
    let read = move || {
        let form = document().get_element_by_id("train-form").and_then(|form| form.dyn_into().ok());
        let data = form.and_then(|form| web_sys::FormData::new_with_form(&form).ok());
        if let Some(Ok(typed)) = data.map(|data| StartTraining::from_form_data(&data)) {
            current.try_set(typed.form);
        }
    };
    WAITING.with(|waiting| {
        if let Some(timer) = waiting.take() {
            timer.clear();
        }
        waiting.set(set_timeout_with_handle(read, PAUSE).ok());
    });
}

#[cfg(not(feature = "hydrate"))]
fn read_soon(_: RwSignal<TrainForm>) {}
