//! An adapter of a visitor's: tried on the model before it is kept.

use super::super::{AppState, checks, error::refuse};
use super::receive::Received;
use crate::store::{self, Owner, new_id, now};
use app::api::{AdapterInfo, ApiResult};
use std::sync::Arc;

pub async fn add(state: &AppState, owner: &Owner, received: Received) -> ApiResult<AdapterInfo> {
    let [file] = received.files.as_slice() else {
        return Err(refuse("Choose one adapter file, such as pytorch_lora_weights.safetensors."));
    };
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = checks::name(received.text("name").unwrap_or(&stem))?;
    let trigger = received.text("trigger").map(checks::trigger).transpose()?.flatten();
    let _turn = state.jobs.reading.acquire().await;
    let bytes = Arc::new(tokio::fs::read(file).await.map_err(store::Error::from)?);
    let fitting = state.jobs.try_adapter(&name, bytes.clone()).await?;
    let _room = state.jobs.room_for(owner, bytes.len() as u64).await?;
    let info = AdapterInfo {
        id: new_id(),
        name,
        trigger,
        rank: fitting.rank,
        alpha: fitting.alpha,
        steps: 0,
        loss: None,
        bytes: bytes.len() as u64,
        training: false,
        run: None,
        dataset: None,
        sample_urls: Vec::new(),
        base_model: fitting.base_model,
        created_at: now(),
    };
    state.jobs.store.add_adapter(owner, &info, &fitting.recipe, Arc::unwrap_or_clone(bytes)).await?;
    Ok(info)
}
