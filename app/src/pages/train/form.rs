//! The training form: name, recipe, what is changed in it, and what it will take.

use super::advanced::Advanced;
use super::dataset::Changes;
use super::prediction::PredictionNote;
use super::recipes::RecipeCards;
use crate::api::{ApiResult, DatasetId, Prediction, RecipeInfo, limits::MAX_NAME_CHARS};
use crate::calls::{
    datasets::get_dataset,
    training::{StartTraining, list_recipes, predict_training},
};
use crate::components::{ErrorNote, PostForm, failure_or_address, post_to};
use crate::forms::TrainForm;
use leptos::prelude::*;
use serde::{Deserialize, Serialize};

/// What the form begins with.
#[derive(Clone, Serialize, Deserialize)]
pub struct Opened {
    recipes: Vec<RecipeInfo>,
    form: TrainForm,
    prediction: ApiResult<Prediction>,
}

/// The form for a set: as typed where it was, with a name, a recipe and a prediction to begin with.
pub async fn open(id: DatasetId, mut form: TrainForm) -> ApiResult<Opened> {
    let (set, recipes) = (get_dataset(id).await?, list_recipes().await?);
    form.dataset = set.id.0;
    if form.name.is_empty() {
        form.name = set.name.chars().take(MAX_NAME_CHARS).collect();
    }
    if !recipes.iter().any(|recipe| recipe.name == form.recipe) {
        form.recipe = recipes.first().map(|recipe| recipe.name.clone()).unwrap_or_default();
    }
    let prediction = predict_training(form.clone()).await;
    Ok(Opened { recipes, form, prediction })
}

#[component]
pub fn TrainFields(opened: Opened, changes: Memo<Changes>) -> impl IntoView {
    let Opened { recipes, form: typed, prediction } = opened;
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
    view! {
        <PostForm to=post_to(start) id="train-form">
            <div class="form" on:input=move |_| read_soon(current)>
            <input type="hidden" name="form[dataset]" value=typed.dataset.clone()/>
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
            <PredictionNote initial=prediction current changes/>
            <ErrorNote message=failure_or_address(start)/>
            <div class="form-actions">
                <button type="submit" class="button primary" disabled=move || pending.get()>
                    "Start training"
                </button>
            </div>
            </div>
        </PostForm>
    }
    .into_any()
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
