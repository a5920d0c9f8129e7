//! An adapter of a visitor's: read by the engine and mounted on the model before it is kept.

use super::super::{
    AppState, checks,
    error::{of_engine, refuse, unavailable},
};
use super::receive::Received;
use crate::store::{self, Owner, new_id, now};
use app::api::{AdapterInfo, ApiResult};
use engine::{Adapter, AdapterSet, Pipeline};
use std::sync::Arc;

pub async fn add(state: &AppState, received: Received) -> ApiResult<AdapterInfo> {
    let [file] = received.files.as_slice() else {
        return Err(refuse("Choose one adapter file, such as pytorch_lora_weights.safetensors."));
    };
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = checks::name(received.text("name").unwrap_or(&stem))?;
    let bytes = Arc::new(tokio::fs::read(file).await.map_err(store::Error::from)?);
    let read = {
        let (name, bytes) = (name.clone(), bytes.clone());
        move |pipeline: &Pipeline| describe(&name, &bytes, pipeline)
    };
    let described = state.jobs.device.ask(read).await.map_err(unavailable)?.map_err(of_engine)?;
    let info = AdapterInfo {
        id: new_id(),
        name,
        trigger: received.text("trigger").map(checks::trigger).transpose()?.flatten(),
        rank: described.rank,
        alpha: described.alpha,
        steps: 0,
        loss: None,
        bytes: bytes.len() as u64,
        training: false,
        run: None,
        dataset: None,
        sample_urls: Vec::new(),
        base_model: described.model,
        created_at: now(),
    };
    let bytes = Arc::unwrap_or_clone(bytes);
    state.jobs.store.add_adapter(&Owner::local(), &info, &described.recipe, bytes).await?;
    Ok(info)
}

struct Described {
    rank: u32,
    alpha: f64,
    model: String,
    recipe: serde_json::Value,
}

/// Reads and mounts it; one of which nothing fits is refused by the engine.
fn describe(name: &str, bytes: &[u8], pipeline: &Pipeline) -> engine::Result<Described> {
    let adapter = Arc::new(Adapter::from_bytes(name, bytes, &pipeline.device)?);
    let (_, coverage) = AdapterSet::mount(&pipeline.transformer, &[(adapter.clone(), 1.0)])?;
    let (matched, unmatched) = coverage.into_iter().next().map(|coverage| (coverage.matched, coverage.unmatched)).unwrap_or_default();
    // Ranks may differ from module to module; the largest says how much it holds.
    let largest = adapter.modules.values().max_by_key(|pair| pair.rank());
    let (rank, scale) = largest.map_or((0, 1.0), |pair| (pair.rank(), pair.scale));
    let recipe = serde_json::json!({
        "name": name,
        "base_model": pipeline.name,
        "header": adapter.metadata,
        "modules": matched.len(),
        "modules_without_a_place": unmatched,
    });
    Ok(Described { rank: rank as u32, alpha: scale * rank as f64, model: pipeline.name.clone(), recipe })
}
