//! `lora_adapter_metadata`: the PEFT configuration in the header of a diffusers LoRA file, read and written.
//!
//! diffusers passes it whole to `LoraConfig(**…)`, so only fields that PEFT knows may be written.

use super::{LoraPair, TEXT_ENCODER, TRANSFORMER};
use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub const KEY: &str = "lora_adapter_metadata";

/// The part of a component's PEFT `LoraConfig` that decides rank and scale.
#[derive(Debug, Deserialize)]
pub struct PeftConfig {
    r: usize,
    /// LoHa and LoKr say only `alpha`.
    #[serde(alias = "alpha")]
    lora_alpha: f64,
    #[serde(default)]
    rank_pattern: BTreeMap<String, usize>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f64>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    pub use_dora: bool,
}

impl PeftConfig {
    /// Reads the configuration of one component (`transformer.` or `text_encoder.`); `None` if the header has none for it.
    pub fn parse(header: &str, component: &str) -> Result<Option<Self>, String> {
        let all: Map<String, Value> = serde_json::from_str(header).map_err(|e| format!("its header's {KEY} is not JSON: {e}"))?;
        let own: Map<String, Value> =
            all.into_iter().filter_map(|(key, value)| Some((key.strip_prefix(component)?.to_owned(), value))).collect();
        if own.is_empty() {
            return Ok(None);
        }
        serde_json::from_value(Value::Object(own)).map(Some).map_err(|e| format!("its header's {KEY}: {e}"))
    }

    /// Reads PEFT's own `adapter_config.json`.
    pub fn parse_own(config: &str) -> Result<Self, String> {
        serde_json::from_str(config).map_err(|e| format!("the adapter_config.json beside it is not PEFT's: {e}"))
    }

    /// The scale of a module, once its rank, if it has one, is found to be what the header says.
    pub fn scale(&self, module: &str, rank: Option<usize>) -> Result<f64, String> {
        let said = pattern(&self.rank_pattern, module)?.unwrap_or(self.r);
        let rank = rank.unwrap_or(said);
        if said != rank {
            return Err(format!("{module} has rank {rank}, but its header says {said}"));
        }
        let alpha = pattern(&self.alpha_pattern, module)?.unwrap_or(self.lora_alpha);
        let divisor = if self.use_rslora { (rank as f64).sqrt() } else { rank as f64 };
        Ok(alpha / divisor)
    }
}

/// PEFT's `get_pattern_key`: a key is a regular expression for the end of a module path.
fn pattern<T: Copy>(patterns: &BTreeMap<String, T>, module: &str) -> Result<Option<T>, String> {
    for (key, &value) in patterns {
        let matches = key == module
            || Regex::new(&format!(r"^(?:.*\.)?(?:{key})$")).map_err(|e| format!("pattern {key:?} in its header: {e}"))?.is_match(module);
        if matches {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// The header for these pairs, their scale already baked into B: alpha is the rank everywhere.
pub fn write(modules: &BTreeMap<String, LoraPair>) -> String {
    let mut header = Map::new();
    for component in [TRANSFORMER, TEXT_ENCODER] {
        let ranks = ranks(modules, component);
        let Some(r) = most_common(ranks.values().copied()) else { continue };
        let others: BTreeMap<_, _> =
            ranks.iter().filter(|(_, rank)| **rank != r).map(|(path, rank)| (format!("^{}", regex::escape(path)), *rank)).collect();
        let fields = [
            ("r", json!(r)),
            ("lora_alpha", json!(r)),
            ("rank_pattern", json!(others)),
            ("alpha_pattern", json!(others)),
            ("target_modules", target_modules(&ranks)),
            ("bias", json!("none")),
            ("lora_dropout", json!(0.0)),
            ("use_rslora", json!(false)),
            ("use_dora", json!(false)),
        ];
        header.extend(fields.map(|(name, value)| (format!("{component}{name}"), value)));
    }
    Value::Object(header).to_string()
}

/// Module path within its component → rank.
fn ranks<'a>(modules: &'a BTreeMap<String, LoraPair>, component: &str) -> BTreeMap<&'a str, usize> {
    let within = |path: &'a str| match path.strip_prefix(TEXT_ENCODER) {
        Some(inner) => (component == TEXT_ENCODER).then_some(inner),
        None => (component == TRANSFORMER).then_some(path),
    };
    modules.iter().filter_map(|(path, pair)| Some((within(path)?, pair.rank()))).collect()
}

/// PEFT matches a listed name against the end of every path, so the output layer `proj_out` would catch every
/// single block's as well: where a listed path is the end of another's, a regular expression says it exactly.
fn target_modules(ranks: &BTreeMap<&str, usize>) -> Value {
    if ranks.keys().any(|path| !path.contains('.')) {
        let exact: Vec<_> = ranks.keys().map(|path| regex::escape(path)).collect();
        return json!(format!("^(?:{})$", exact.join("|")));
    }
    json!(ranks.keys().collect::<Vec<_>>())
}

/// The value that occurs most often; the smallest of those that tie.
fn most_common(values: impl Iterator<Item = usize>) -> Option<usize> {
    let mut counts = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_insert(0) += 1);
    counts.into_iter().max_by_key(|&(value, count)| (count, std::cmp::Reverse(value))).map(|(value, _)| value)
}
