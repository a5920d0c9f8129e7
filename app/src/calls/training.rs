//! Fine-tuning: recipes, predictions, start, and a training in detail.

use crate::api::{ApiError, Prediction, RecipeInfo, RunId, TrainingDetail};
use crate::forms::TrainForm;
use leptos::prelude::*;

#[cfg(feature = "ssr")]
use super::context::{answered, api, go_to, or_back_to};

#[server(endpoint = "list_recipes")]
pub async fn list_recipes() -> Result<Vec<RecipeInfo>, ApiError> {
    answered(api().recipes().await)
}

#[server(endpoint = "predict_training")]
pub async fn predict_training(form: TrainForm) -> Result<Prediction, ApiError> {
    let request = answered(form.request())?;
    answered(api().predict(request).await)
}

/// Lands on `/train/RUN`.
#[server(endpoint = "start_training")]
pub async fn start_training(form: TrainForm) -> Result<RunId, ApiError> {
    let typed = form.query();
    let started = async { api().train(form.request()?).await };
    let run = or_back_to(started.await, "/train", &typed)?;
    go_to(&format!("/train/{run}"));
    Ok(run)
}

#[server(endpoint = "get_training")]
pub async fn get_training(run: RunId) -> Result<TrainingDetail, ApiError> {
    answered(api().training(run).await)
}
