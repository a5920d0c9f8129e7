//! What the training will take, before it is started.

use crate::api::Prediction;
use crate::calls::training::predict_training;
use crate::components::awaited;
use crate::format;
use crate::forms::TrainForm;
use leptos::prelude::*;

#[component]
pub fn PredictionNote(current: RwSignal<TrainForm>) -> impl IntoView {
    let prediction = Resource::new(move || current.get(), predict_training);
    let words = awaited(move || async move {
        match prediction.await {
            Ok(prediction) => told(prediction).into_any(),
            Err(error) => view! { <p class="warning">{error.message}</p> }.into_any(),
        }
    });
    view! {
        <div class="prediction" aria-live="polite">
            {words}
        </div>
    }
}

fn told(prediction: Prediction) -> impl IntoView {
    let warnings = prediction.warnings.into_iter().map(|warning| view! { <p class="warning">{warning}</p> }).collect_view();
    view! {
        <p>
            "About " <strong>{format::duration(prediction.seconds)}</strong> " and " <strong>{format::mib(prediction.peak_mib)}</strong> " of memory."
        </p>
        {warnings}
    }
}
