//! Which layers get a LoRA pair: presets, blocks, names by suffix or a regular expression over whole paths, as PEFT reads them.

use crate::{Error, Result};
use engine::transformer::LinearInfo;
use regex::Regex;

const ATTENTION: &[&str] = &["to_q", "to_k", "to_v", "to_out.0"];
const CONTEXT: &[&str] = &["add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"];

/// Presets with one line each.
pub const PRESETS: &[(&str, &str)] = &[
    ("attention", "to_q, to_k, to_v and to_out.0 of every block, as the diffusers training scripts choose"),
    ("attention+context", "the same and the text side's projections in the double blocks"),
    ("all-linear", "every linear layer inside the blocks: attention, feed-forward and modulation"),
];

enum Pattern {
    /// Last parts of the module path.
    Suffixes(Vec<String>),
    /// The whole path.
    Path(Regex),
    Blocks(Vec<Block>),
    EveryBlock,
}

struct Block {
    double: bool,
    first: usize,
    last: usize,
}

/// Refuses a pattern that cannot be read, before any model is at hand.
pub fn check(targets: &str) -> Result<()> {
    parse(targets).map(drop)
}

/// The layers that `targets` means, in the model's order. Nothing matched is refused, with examples.
pub fn select<'a>(targets: &str, linears: &'a [LinearInfo]) -> Result<Vec<&'a LinearInfo>> {
    let pattern = parse(targets)?;
    let chosen: Vec<_> = linears.iter().filter(|linear| pattern.matches(&linear.path)).collect();
    if chosen.is_empty() {
        let step = (linears.len() / 4).max(1);
        let examples = linears.iter().step_by(step).map(|linear| linear.path.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Error::Recipe(format!(
            "targets {targets:?} match no layer of this model; use {} or match paths such as {examples}",
            preset_names()
        )));
    }
    Ok(chosen)
}

fn parse(targets: &str) -> Result<Pattern> {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let is_name = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c));
    let parts: Vec<_> = targets.split(',').map(str::trim).collect();
    match targets.trim() {
        "attention" => Ok(Pattern::Suffixes(owned(ATTENTION))),
        "attention+context" => Ok(Pattern::Suffixes(owned(&[ATTENTION, CONTEXT].concat()))),
        "all-linear" => Ok(Pattern::EveryBlock),
        "" => Err(Error::Recipe(format!("targets must not be empty; use {}", preset_names()))),
        trimmed if trimmed.starts_with("blocks:") => {
            trimmed["blocks:".len()..].split(',').map(|part| Block::parse(part.trim())).collect::<Result<_>>().map(Pattern::Blocks)
        }
        _ if parts.iter().all(|part| is_name(part)) => Ok(Pattern::Suffixes(owned(&parts))),
        trimmed => Regex::new(&format!("^(?:{trimmed})$"))
            .map(Pattern::Path)
            .map_err(|error| Error::Recipe(format!("targets {trimmed:?} are no regular expression: {error}"))),
    }
}

impl Pattern {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Suffixes(names) => names.iter().any(|name| path == name || path.ends_with(&format!(".{name}"))),
            Self::Path(regex) => regex.is_match(path),
            Self::Blocks(blocks) => blocks.iter().any(|block| block.holds(path)),
            Self::EveryBlock => block_of(path).is_some(),
        }
    }
}

impl Block {
    /// `double.0`, `single.2-5`; a bare number is a double block.
    fn parse(text: &str) -> Result<Self> {
        let wrong = || Error::Recipe(format!("block {text:?}: write double.0, single.3 or a range such as single.2-5"));
        let (kind, range) = text.split_once('.').unwrap_or(("double", text));
        let double = match kind {
            "double" => true,
            "single" => false,
            _ => return Err(wrong()),
        };
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        if first > last {
            return Err(wrong());
        }
        Ok(Self { double, first, last })
    }

    fn holds(&self, path: &str) -> bool {
        block_of(path).is_some_and(|(double, index)| double == self.double && (self.first..=self.last).contains(&index))
    }
}

/// (is a double block, its number)
fn block_of(path: &str) -> Option<(bool, usize)> {
    let (kind, rest) = path.split_once('.')?;
    let index = rest.split('.').next()?.parse().ok()?;
    match kind {
        "transformer_blocks" => Some((true, index)),
        "single_transformer_blocks" => Some((false, index)),
        _ => None,
    }
}

fn preset_names() -> String {
    PRESETS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linears() -> Vec<LinearInfo> {
        let double = ["attn.to_q", "attn.to_out.0", "attn.add_q_proj", "attn.to_add_out", "ff.net.0.proj", "norm1.linear"];
        let single = ["attn.to_q", "proj_mlp", "proj_out", "norm.linear"];
        let mut paths = vec!["x_embedder".to_owned(), "proj_out".to_owned()];
        paths.extend((0..2).flat_map(|i| double.map(|name| format!("transformer_blocks.{i}.{name}"))));
        paths.extend((0..3).flat_map(|i| single.map(|name| format!("single_transformer_blocks.{i}.{name}"))));
        paths.into_iter().enumerate().map(|(id, path)| LinearInfo { id, path, in_features: 8, out_features: 8 }).collect()
    }

    fn count(targets: &str) -> usize {
        select(targets, &linears()).map_or(0, |chosen| chosen.len())
    }

    #[test]
    fn presets_names_blocks_and_expressions() {
        assert_eq!(count("attention"), 2 * 2 + 3);
        assert_eq!(count("attention+context"), 2 * 4 + 3);
        assert_eq!(count("all-linear"), 2 * 6 + 3 * 4);
        assert_eq!(count("blocks:0,single.1-2"), 6 + 2 * 4);
        assert_eq!(count("to_q, ff.net.0.proj"), 5 + 2);
        // A suffix begins at a dot: `proj_out` is not `xproj_out`, and the model's own last layer is one as well.
        assert_eq!(count("proj_out"), 4);
        assert_eq!(count(r"single_transformer_blocks\.\d+\.(attn\.to_q|proj_mlp)"), 6);
        // An expression must match the whole path.
        assert_eq!(count(r"attn\.to_[q]"), 0);
    }

    #[test]
    fn nothing_matched_lists_examples_and_nonsense_is_refused() {
        let error = select("to_queue", &linears()).unwrap_err().to_string();
        assert!(error.contains("transformer_blocks.") && error.contains("all-linear"), "{error}");
        for wrong in ["", "blocks:", "blocks:triple.1", "blocks:single.5-2", "(unclosed"] {
            assert!(check(wrong).is_err(), "{wrong:?}");
        }
    }
}
