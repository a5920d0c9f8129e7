//! Runs: everything that takes its time is one. Waited for, watched, stopped, resumed.

use super::{
    Caller, Refusal,
    extract::{Asked, Named},
};
use crate::server::{AppState, events};
use app::api::{Event, Run, RunId};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
};
use serde::Deserialize;
use std::time::Duration;
use utoipa::IntoParams;

/// Proxies give up on an answer after a minute.
const LONGEST_WAIT: u64 = 50;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Wait {
    /// Seconds to wait for the end, up to 50; at once if left out.
    pub wait: Option<u64>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Listed {
    /// Only those that wait or run.
    #[serde(default)]
    active: bool,
    /// At most so many; 50 if left out.
    limit: Option<usize>,
}

/// 202 while it waits or runs, 200 when it is over.
pub type RunAnswer = Result<(StatusCode, Json<Run>), Refusal>;

/// A run that was just asked for, or is asked after: as it stands when it ends, or when patience does.
pub async fn awaited(state: &AppState, caller: &Caller, id: RunId, Wait { wait }: Wait) -> RunAnswer {
    let patience = Duration::from_secs(wait.unwrap_or(0).min(LONGEST_WAIT));
    let run = match patience.is_zero() {
        true => caller.api(state).run(id).await?,
        false => events::until_ended(&state.jobs, &caller.owner(), &id, patience).await?,
    };
    let status = if run.state.is_active() { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(run)))
}

/// Runs, newest first
#[utoipa::path(get, path = "/runs", tag = "Runs", params(Listed), responses((status = 200, body = Vec<Run>)))]
pub async fn list_runs(
    State(state): State<AppState>,
    caller: Caller,
    Asked(Listed { active, limit }): Asked<Listed>,
) -> Result<Json<Vec<Run>>, Refusal> {
    Ok(Json(caller.api(&state).runs(active, limit.unwrap_or(50).min(1000)).await?))
}

/// A run, now or when it ends
#[utoipa::path(get, path = "/runs/{run}", tag = "Runs", params(("run" = RunId, Path), Wait),
    responses((status = 200, description = "It is over", body = Run), (status = 202, description = "It waits or runs", body = Run)))]
pub async fn show_run(State(state): State<AppState>, caller: Caller, Named(id): Named<RunId>, Asked(wait): Asked<Wait>) -> RunAnswer {
    awaited(&state, &caller, id, wait).await
}

/// Watch a run
///
/// Server-sent events: how it stands, then every change until it ends. `Last-Event-ID`, or `after`, is the step of the last loss heard.
#[utoipa::path(get, path = "/runs/{run}/events", tag = "Runs", params(("run" = RunId, Path), events::From),
    responses((status = 200, description = "One Event in the data of each", content_type = "text/event-stream", body = Event)))]
pub async fn watch_run(
    State(state): State<AppState>,
    caller: Caller,
    Named(id): Named<RunId>,
    Asked(events::From { after }): Asked<events::From>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Refusal> {
    events::respond(&state, caller.owner(), id, after, &headers).await
}

/// Stop a run
///
/// At once while it waits, at its next step while it runs. What is done is kept.
#[utoipa::path(post, path = "/runs/{run}/stop", tag = "Runs", params(("run" = RunId, Path), Wait),
    responses((status = 200, description = "It is over", body = Run), (status = 202, description = "It stops at its next step", body = Run)))]
pub async fn stop_run(State(state): State<AppState>, caller: Caller, Named(id): Named<RunId>, Asked(wait): Asked<Wait>) -> RunAnswer {
    caller.api(&state).stop(id.clone()).await?;
    awaited(&state, &caller, id, wait).await
}

/// Resume a training
///
/// One that was stopped or failed goes on from its last checkpoint.
#[utoipa::path(post, path = "/runs/{run}/resume", tag = "Runs", params(("run" = RunId, Path)),
    responses((status = 202, body = Run)))]
pub async fn resume_run(State(state): State<AppState>, caller: Caller, Named(id): Named<RunId>) -> RunAnswer {
    caller.api(&state).resume(id.clone()).await?;
    awaited(&state, &caller, id, Wait { wait: None }).await
}
