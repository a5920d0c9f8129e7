//! Trainings: recipes, predictions, started, seen in detail. Stopped, resumed and watched as the runs that they are.

use super::{
    Caller, Refusal,
    extract::{Body, Named},
    files::{File, file},
    runs::{RunAnswer, Wait, awaited},
};
use crate::{server::AppState, store};
use app::api::{Prediction, RecipeInfo, Run, RunId, TrainRequest, TrainingDetail};
use axum::{Json, extract::State, response::Response};

/// Built-in recipes
#[utoipa::path(get, path = "/recipes", tag = "Trainings", responses((status = 200, body = Vec<RecipeInfo>)))]
pub async fn list_recipes(State(state): State<AppState>, caller: Caller) -> Result<Json<Vec<RecipeInfo>>, Refusal> {
    Ok(Json(caller.api(&state).recipes().await?))
}

/// Predict a training
///
/// Seconds, memory, and what would be refused or is unwise. Starts nothing.
#[utoipa::path(post, path = "/predictions", tag = "Trainings", request_body = TrainRequest, responses((status = 200, body = Prediction)))]
pub async fn predict_training(
    State(state): State<AppState>,
    caller: Caller,
    Body(request): Body<TrainRequest>,
) -> Result<Json<Prediction>, Refusal> {
    Ok(Json(caller.api(&state).predict(request).await?))
}

/// Start a training
#[utoipa::path(post, path = "/trainings", tag = "Trainings", request_body = TrainRequest, responses((status = 202, body = Run)))]
pub async fn start_training(State(state): State<AppState>, caller: Caller, Body(request): Body<TrainRequest>) -> RunAnswer {
    let run = caller.api(&state).train(request).await?;
    awaited(&state, &caller, run, Wait { wait: None }).await
}

/// A training in detail
///
/// With every loss and sample, and the id of its adapter, which can be used while it is trained.
#[utoipa::path(get, path = "/trainings/{run}", tag = "Trainings", params(("run" = RunId, Path)), responses((status = 200, body = TrainingDetail)))]
pub async fn show_training(
    State(state): State<AppState>,
    caller: Caller,
    Named(id): Named<RunId>,
) -> Result<Json<TrainingDetail>, Refusal> {
    Ok(Json(caller.api(&state).training(id).await?))
}

/// A sample picture of a training
///
/// Named by the last part of its `url`.
#[utoipa::path(get, path = "/trainings/{run}/samples/{sample}", tag = "Trainings", params(("run" = RunId, Path), ("sample" = String, Path)),
    responses((status = 200, content_type = "image/png", body = File)))]
pub async fn fetch_sample(
    State(state): State<AppState>,
    caller: Caller,
    Named((run, sample)): Named<(RunId, String)>,
) -> Result<Response, Refusal> {
    let path = state.jobs.store.sample_file(&caller.owner(), &run, &sample).await?;
    Ok(file(tokio::fs::read(path).await.map_err(store::Error::from)?, "image/png", &sample))
}
