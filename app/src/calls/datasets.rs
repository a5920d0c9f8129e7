//! Style sets: chosen, captioned, pruned. Pictures arrive through `/upload/dataset`.

use crate::api::{ApiError, DatasetId, DatasetInfo, SampleSet};
use leptos::prelude::*;

#[cfg(feature = "ssr")]
use super::context::{answered, api, go_to};
#[cfg(feature = "ssr")]
use crate::forms::write_pairs;

#[server(endpoint = "list_sample_sets")]
pub async fn list_sample_sets() -> Result<Vec<SampleSet>, ApiError> {
    answered(api().sample_sets().await)
}

/// Lands on `/train?dataset=ID` with a copy of the set and the recipe that suits it.
#[server(endpoint = "use_sample_set")]
pub async fn use_sample_set(name: String) -> Result<DatasetId, ApiError> {
    let api = api();
    let recipe = api.sample_sets().await?.into_iter().find(|set| set.name == name).map(|set| set.recipe).unwrap_or_default();
    let id = answered(api.use_sample_set(name).await)?;
    go_to(&format!("/train?{}", write_pairs(&[("dataset", &id.0), ("recipe", &recipe)])));
    Ok(id)
}

/// Newest first.
#[server(endpoint = "list_datasets")]
pub async fn list_datasets() -> Result<Vec<DatasetInfo>, ApiError> {
    answered(api().datasets().await)
}

#[server(endpoint = "get_dataset")]
pub async fn get_dataset(id: DatasetId) -> Result<DatasetInfo, ApiError> {
    answered(api().dataset(id).await)
}

#[server(endpoint = "set_caption")]
pub async fn set_caption(dataset: DatasetId, item: String, caption: String) -> Result<(), ApiError> {
    answered(api().set_caption(dataset, item, caption).await)
}

#[server(endpoint = "set_trigger")]
pub async fn set_trigger(dataset: DatasetId, trigger: String) -> Result<(), ApiError> {
    answered(api().set_trigger(dataset, trigger.trim().to_owned()).await)
}

#[server(endpoint = "remove_item")]
pub async fn remove_item(dataset: DatasetId, item: String) -> Result<(), ApiError> {
    answered(api().remove_item(dataset, item).await)
}

#[server(endpoint = "delete_dataset")]
pub async fn delete_dataset(id: DatasetId) -> Result<(), ApiError> {
    answered(api().delete_dataset(id).await)?;
    go_to("/train");
    Ok(())
}
