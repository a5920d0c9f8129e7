//! `lora_adapter_metadata`: the PEFT configuration in the header of a diffusers LoRA file, read and written.
//!
//! diffusers passes it whole to `LoraConfig(**…)`, so only fields that PEFT knows may be written.

use super::{LoraPair, TEXT_ENCODER, TRANSFORMER};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Regular expressions among a configuration's patterns; PEFT itself writes paths.
const MOST_EXPRESSIONS: usize = 1024;
/// Bytes that one may take when it is compiled.
const EXPRESSION: usize = 1 << 18;

pub const KEY: &str = "lora_adapter_metadata";

/// The part of a component's PEFT `LoraConfig` that decides rank and scale.
#[derive(Debug, Deserialize)]
pub struct PeftConfig {
    r: usize,
    /// LoHa and LoKr say only `alpha`.
    #[serde(alias = "alpha")]
    lora_alpha: f64,
    #[serde(default)]
    rank_pattern: Patterns<usize>,
    #[serde(default)]
    alpha_pattern: Patterns<f64>,
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
        let said = self.rank_pattern.get(module).unwrap_or(self.r);
        let rank = rank.unwrap_or(said);
        if said != rank {
            return Err(format!("{module} has rank {rank}, but its header says {said}"));
        }
        let alpha = self.alpha_pattern.get(module).unwrap_or(self.lora_alpha);
        let divisor = if self.use_rslora { (rank as f64).sqrt() } else { rank as f64 };
        Ok(alpha / divisor)
    }
}

/// Values by pattern; the first that matches counts.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "BTreeMap<String, T>", bound(deserialize = "T: Deserialize<'de>"))]
struct Patterns<T>(Vec<(Pattern, T)>);

impl<T: Copy> Patterns<T> {
    fn get(&self, module: &str) -> Option<T> {
        self.0.iter().find(|(pattern, _)| pattern.matches(module)).map(|(_, value)| *value)
    }
}

impl<T> TryFrom<BTreeMap<String, T>> for Patterns<T> {
    type Error = String;

    fn try_from(values: BTreeMap<String, T>) -> Result<Self, String> {
        let patterns = values.into_iter().map(|(key, value)| Ok((Pattern::new(&key)?, value))).collect::<Result<Vec<_>, String>>()?;
        let expressions = patterns.iter().filter(|(pattern, _)| matches!(pattern, Pattern::Expression(_))).count();
        if expressions > MOST_EXPRESSIONS {
            return Err(format!("{expressions} of its patterns are regular expressions; {MOST_EXPRESSIONS} are read"));
        }
        Ok(Self(patterns))
    }
}

/// PEFT's `get_pattern_key`: a key is a regular expression for the end of a module path. Most are a path, or the end of one, and are compared
/// as such.
#[derive(Debug)]
enum Pattern {
    Path(String),
    End(String),
    Expression(Regex),
}

impl Pattern {
    fn new(key: &str) -> Result<Self, String> {
        let text = key.replace(r"\.", ".");
        let (path, make): (&str, fn(String) -> Self) = match text.strip_prefix('^') {
            Some(path) => (path, Self::Path),
            None => (&text, Self::End),
        };
        if path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte)) {
            return Ok(make(path.to_owned()));
        }
        let expression = RegexBuilder::new(&format!(r"^(?:.*\.)?(?:{key})$")).size_limit(EXPRESSION).build();
        expression.map(Self::Expression).map_err(|e| format!("pattern {key:?}: {e}"))
    }

    fn matches(&self, module: &str) -> bool {
        match self {
            Self::Path(path) => path == module,
            Self::End(end) => module.strip_suffix(end.as_str()).is_some_and(|before| before.is_empty() || before.ends_with('.')),
            Self::Expression(expression) => expression.is_match(module),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_peft_matches_them() {
        for (key, module, matches) in [
            ("proj_out", "single_transformer_blocks.0.proj_out", true),
            ("proj_out", "proj_out", true),
            ("^proj_out", "single_transformer_blocks.0.proj_out", false),
            (r"^transformer_blocks\.0\.attn\.to_q", "transformer_blocks.0.attn.to_q", true),
            (r"^transformer_blocks\.0\.attn\.to_q", "single_transformer_blocks.0.attn.to_q", false),
            ("to_q", "transformer_blocks.0.attn.add_to_q", false),
            (r"blocks\.\d+\.attn\.to_q", "transformer_blocks.7.attn.to_q", false),
            (r"transformer_blocks\.\d+\.attn\.to_q", "transformer_blocks.7.attn.to_q", true),
            ("attn.(to_q|to_k)", "transformer_blocks.7.attn.to_k", true),
        ] {
            assert_eq!(Pattern::new(key).unwrap().matches(module), matches, "{key} {module}");
        }
        assert!(Pattern::new("to_(q").is_err() && Pattern::new("(a{1000}){1000}").is_err());
        let many: BTreeMap<String, usize> = (0..2000).map(|i| (format!("a+{i}"), i)).collect();
        assert!(Patterns::try_from(many).unwrap_err().contains("1024"));
    }
}
