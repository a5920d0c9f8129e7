//! An adapter file that was brought along, tried on the model before it is kept.

use super::{
    Jobs,
    error::{Error, Result},
};
use engine::{Adapter, Pipeline};
use std::sync::Arc;

/// An adapter that fits, wholly or in part.
pub struct Fitting {
    pub rank: u32,
    pub alpha: f64,
    pub base_model: String,
    /// adapter.json of a file without one: its header, and which of its modules found a place.
    pub recipe: serde_json::Value,
}

impl Jobs {
    /// Reads and mounts it; one of which nothing fits, or which changes nothing, is refused.
    pub async fn try_adapter(&self, name: &str, bytes: Arc<Vec<u8>>) -> Result<Fitting> {
        let name = name.to_owned();
        let answer = self.device.ask(move |pipeline| fit(&name, &bytes, pipeline)).await;
        Ok(answer.map_err(|error| Error::Unavailable(error.to_string()))??)
    }
}

fn fit(name: &str, bytes: &[u8], pipeline: &Pipeline) -> engine::Result<Fitting> {
    let adapter = Arc::new(Adapter::from_bytes(name, bytes, &pipeline.device)?);
    let coverage = pipeline.mount(&[(adapter.clone(), 1.0)])?.coverage.into_iter().next().unwrap_or_default();
    let change = pipeline.measure(&adapter)?;
    // Ranks may differ from module to module; the largest says how much it holds.
    let largest = adapter.modules.values().max_by_key(|delta| delta.rank());
    let (rank, scale) = largest.map_or((0, 1.0), |delta| (delta.rank().unwrap_or_default(), delta.scale()));
    let recipe = serde_json::json!({
        "name": name,
        "base_model": pipeline.name,
        "written_by": adapter.layout.name(),
        "header": adapter.metadata,
        "modules": coverage.matched.len(),
        "fit": coverage.in_words(),
        "measured_change": change,
        "modules_without_a_place": coverage.unmatched,
    });
    Ok(Fitting { rank: rank as u32, alpha: scale * rank as f64, base_model: pipeline.name.clone(), recipe })
}
