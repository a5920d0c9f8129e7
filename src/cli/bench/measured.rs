//! One measurement of a step beside what was possible and what was predicted, as a line and as JSON.

use super::{floor, middle};
use anyhow::Result;
use engine::{Pipeline, Precision, Size, device, flops::Flops, memory::Bytes};
use serde::Serialize;

#[derive(Serialize)]
pub struct Measured {
    /// `generate` or `train`.
    pub mode: &'static str,
    pub model: String,
    pub device: String,
    pub precision: Precision,
    pub size: Size,
    pub text_tokens: usize,
    /// Median of `seconds`.
    pub step_s: f64,
    pub seconds: Vec<f64>,
    pub tflops_per_second: f64,
    /// The least time possible on this device, where that is known, and its share of `step_s`.
    pub floor_s: Option<f64>,
    pub share_of_floor: Option<f64>,
    /// The most that tensors took at once during the steps, and what was predicted; on the CPU nobody counts.
    pub peak_bytes: Option<u64>,
    pub predicted_bytes: u64,
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
    pub version: &'static str,
}

/// What a step did, and took.
pub struct Step {
    pub mode: &'static str,
    pub size: Size,
    pub text_tokens: usize,
    pub work: Flops,
    pub seconds: Vec<f64>,
    /// Of the transformer and its work.
    pub predicted_bytes: u64,
}

impl Measured {
    pub fn new(pipeline: &Pipeline, step: Step, peak_bytes: Option<u64>) -> Self {
        let (device, precision) = (device::in_words(&pipeline.device), pipeline.placement.precision);
        let step_s = middle(step.seconds.clone());
        let floor_s = floor::seconds(&device, precision, step.work);
        Self {
            mode: step.mode,
            model: pipeline.name.clone(),
            precision,
            size: step.size,
            text_tokens: step.text_tokens,
            step_s,
            seconds: step.seconds,
            tflops_per_second: step.work.total() / step_s / 1e12,
            floor_s,
            share_of_floor: floor_s.map(|floor| floor / step_s),
            peak_bytes,
            predicted_bytes: step.predicted_bytes,
            more: serde_json::Map::new(),
            device,
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// Adds what only this mode knows.
    pub fn with(mut self, name: &str, value: impl Serialize) -> Result<Self> {
        self.more.insert(name.to_owned(), serde_json::to_value(value)?);
        Ok(self)
    }
}

/// One line a measurement under their headings.
pub fn table(measured: &[Measured]) -> String {
    let heading = format!(
        "{:<9} {:<10} {:<5} {:<7} {:>9} {:>9} {:>9} {:>6} {:>10} {:>10}",
        "mode", "size", "in", "keeps", "step, s", "TFLOP/s", "floor, s", "share", "peak", "predicted"
    );
    let lines = measured.iter().map(|one| {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        format!(
            "{:<9} {:<10} {:<5} {:<7} {:>9.4} {:>9.2} {:>9} {:>6} {:>10} {:>10}",
            one.mode,
            one.size.to_string(),
            one.precision.to_string(),
            one.more.get("checkpointing").and_then(|policy| policy.as_str()).unwrap_or("-"),
            one.step_s,
            one.tflops_per_second,
            or_dash(one.floor_s.map(|floor| format!("{floor:.4}"))),
            or_dash(one.share_of_floor.map(|share| format!("{:.0} %", 100.0 * share))),
            or_dash(one.peak_bytes.map(|bytes| Bytes(bytes).to_string())),
            Bytes(one.predicted_bytes).to_string(),
        )
    });
    std::iter::once(heading).chain(lines).collect::<Vec<_>>().join("\n")
}
