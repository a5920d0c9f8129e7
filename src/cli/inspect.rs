//! `atelier inspect`: what is in a file, by its content: parts of FLUX.1, or an adapter and how it fits a model.

use super::{
    adapters,
    arguments::ModelArguments,
    output::{self, say},
};
use anyhow::Result;
use clap::Args;
use engine::{
    Device,
    adapter::Matched,
    checkpoint::{contents, file::TensorFile},
};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

const EXAMPLES: &str = "Examples:
  atelier inspect flux1-dev-Q4_K_S.gguf
  atelier inspect style.safetensors --model /models/FLUX.1-dev";

/// Say what a file is: a base model's parts, or an adapter, module by module
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// A safetensors or GGUF file, or the folder of an adapter
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    model: ModelArguments,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let path = &arguments.file;
    let parts = if path.is_file() { contents::parts(&TensorFile::open(path)?) } else { Default::default() };
    if parts.is_empty() {
        return inspect_adapter(path, arguments);
    }
    if arguments.json {
        output::say_json(&serde_json::json!({"file": path, "parts": parts.keys().collect::<Vec<_>>()}))?;
        return Ok(ExitCode::SUCCESS);
    }
    for (part, found) in parts {
        say(format_args!("{}: {} by {}", path.display(), contents::in_words(part), found.in_words()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Every module with its scale, every key that leads nowhere, and the measured change.
fn inspect_adapter(path: &Path, arguments: &Arguments) -> Result<ExitCode> {
    let adapter = match adapters::read(path, &Device::Cpu) {
        Ok(adapter) => Arc::new(adapter),
        // A file that is neither is better described as the model that it may be.
        Err(error) if path.is_file() => return Err(error.context(contents::what_else(&TensorFile::open(path)?))),
        Err(error) => return Err(error),
    };
    let pipeline = arguments.model.load()?;
    let coverage = pipeline.mount(&[(adapter.clone(), 1.0)])?.coverage.remove(0);
    let change = pipeline.measure(&adapter)?;
    if arguments.json {
        let matched: Vec<_> = coverage.matched.iter().map(json).collect();
        output::say_json(&serde_json::json!({
            "file": path, "written_by": adapter.layout.name(), "matched": matched, "unmatched": coverage.unmatched, "change": change,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    say(format_args!("{}: an adapter as {} writes it; {}", path.display(), adapter.layout.name(), coverage.in_words()))?;
    say(format_args!("at strength 1 it changes the velocity of {} by {:.2} %", pipeline.name, 100.0 * change))?;
    for Matched { path, kind, rank, scale } in &coverage.matched {
        let rank = rank.map_or("whole".to_owned(), |rank| format!("rank {rank}"));
        say(format_args!("  {path:<64} {kind:<6} {rank:<9} scale {scale:.4}"))?;
    }
    for (key, reason) in &coverage.unmatched {
        say(format_args!("  left out: {key}: {reason}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn json(Matched { path, kind, rank, scale }: &Matched) -> serde_json::Value {
    serde_json::json!({"module": path, "kind": kind, "rank": rank, "scale": scale})
}
