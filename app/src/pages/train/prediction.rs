//! What the training will take, before it is started.

use super::dataset::Changes;
use crate::api::{ApiResult, Prediction};
use crate::calls::training::predict_training;
use crate::format;
use crate::forms::TrainForm;
use leptos::prelude::*;

/// Asks again whenever the form or the pictures change.
#[component]
pub fn PredictionNote(initial: ApiResult<Prediction>, current: RwSignal<TrainForm>, changes: Memo<Changes>) -> impl IntoView {
    let prediction = RwSignal::new(initial);
    Effect::new(move |before: Option<()>| {
        let form = current.get();
        changes.track();
        if before.is_some() {
            leptos::task::spawn_local(async move {
                let answer = predict_training(form.clone()).await;
                // An answer to what has changed since is dropped; the next one is on its way.
                if current.try_with_untracked(|now| *now == form) == Some(true) {
                    prediction.try_set(answer);
                }
            });
        }
    });
    view! {
        <div class="prediction" aria-live="polite">
            {move || prediction.with(|prediction| match prediction {
                Ok(prediction) => told(prediction),
                Err(error) => view! { <p class="warning">{error.message.clone()}</p> }.into_any(),
            })}
        </div>
    }
}

fn told(prediction: &Prediction) -> AnyView {
    let warnings = prediction.warnings.iter().map(|warning| view! { <p class="warning">{warning.clone()}</p> }).collect_view();
    view! {
        <p>"About " <strong>{format::duration(prediction.seconds)}</strong> " and " <strong>{format::mib(prediction.peak_mib)}</strong> " of memory."</p>
        {warnings}
    }
    .into_any()
}
