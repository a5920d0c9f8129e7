//! Models by name: the base, and the base with each adapter.

use super::Error;
use crate::server::{
    AppState,
    rest::{Caller, extract::Named, facts},
};
use app::api::{AdapterInfo, Api};
use axum::{Json, extract::State};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// What draws.
pub enum Model {
    Base,
    Adapted(Box<AdapterInfo>),
}

/// A model as clients list it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = OpenAiModel)]
pub struct Listed {
    /// The base's name, or an adapter's; an adapter's id where two have the same name.
    id: String,
    object: &'static str,
    created: i64,
    owned_by: &'static str,
}

#[derive(Serialize, ToSchema)]
#[schema(as = OpenAiModels)]
pub struct List {
    object: &'static str,
    data: Vec<Listed>,
}

/// Models
///
/// The base model, and every adapter on it.
#[utoipa::path(get, path = "/models", tag = "OpenAI", responses((status = 200, body = List)))]
pub async fn list_models(State(state): State<AppState>, caller: Caller) -> Result<Json<List>, Error> {
    Ok(Json(List { object: "list", data: listed(&state, &caller).await? }))
}

/// A model
#[utoipa::path(get, path = "/models/{model}", tag = "OpenAI", params(("model" = String, Path)), responses((status = 200, body = Listed)))]
pub async fn show_model(State(state): State<AppState>, caller: Caller, Named(id): Named<String>) -> Result<Json<Listed>, Error> {
    let found = listed(&state, &caller).await?.into_iter().find(|model| model.id == id);
    Ok(Json(found.ok_or_else(|| unknown(&id))?))
}

async fn listed(state: &AppState, caller: &Caller) -> Result<Vec<Listed>, Error> {
    let base = facts(state).await?.model.clone();
    let adapters = caller.api(state).adapters().await?;
    let name = |adapter: &AdapterInfo| match namesakes(&adapters, &adapter.name).count() {
        1 if adapter.name != base => adapter.name.clone(),
        _ => adapter.id.0.clone(),
    };
    let model = |id: String, created| Listed { id, object: "model", created, owned_by: "atelier" };
    let adapted = adapters.iter().map(|adapter| model(name(adapter), adapter.created_at));
    Ok(std::iter::once(model(base.clone(), 0)).chain(adapted).collect())
}

/// The base where nothing is named; else by id, or by a name that only one has.
pub async fn find(state: &AppState, api: &Arc<dyn Api>, name: Option<&str>) -> Result<Model, Error> {
    let name = name.unwrap_or_default().trim();
    if name.is_empty() || name == facts(state).await?.model {
        return Ok(Model::Base);
    }
    let adapters = api.adapters().await?;
    let by_id = adapters.iter().find(|adapter| adapter.id.0 == name);
    let mut by_name = namesakes(&adapters, name);
    match (by_id.or_else(|| by_name.next()), by_name.next()) {
        (Some(adapter), None) => Ok(Model::Adapted(Box::new(adapter.clone()))),
        (Some(_), Some(_)) => {
            Err(Error::invalid("model", format!("Several adapters are called {name:?}; give the id of one, as GET /v1/models lists them.")))
        }
        (None, _) => Err(unknown(name)),
    }
}

fn namesakes<'a>(adapters: &'a [AdapterInfo], name: &'a str) -> impl Iterator<Item = &'a AdapterInfo> {
    adapters.iter().filter(move |adapter| adapter.name == name)
}

fn unknown(name: &str) -> Error {
    let name: String = name.chars().take(80).collect();
    Error::no_model(format!("There is no model {name:?} here; GET /v1/models lists those there are."))
}
