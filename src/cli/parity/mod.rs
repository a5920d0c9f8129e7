//! `atelier parity`: every stage of the engine and the trainer beside reference tensors from diffusers, transformers and peft.

mod call;
mod check;
mod fixtures;
mod lora_output;
mod lora_step;
mod sampling;
mod schedule;
mod text;
mod transformer;
mod vae;

use super::{
    arguments::ModelArguments,
    fault::{Usage, usage},
    output, progress,
};
use anyhow::Result;
use check::Row;
use clap::Args;
use engine::{Pipeline, Precision};
use fixtures::Fixtures;
use std::{path::PathBuf, process::ExitCode};

const EXAMPLES: &str = "Examples:
  atelier parity tests/fixtures/flux-mini
  atelier parity --model models/flux-mini --json tests/fixtures/flux-mini
  atelier parity --device cuda:0 --precision bf16 tests/fixtures/flux-mini

One row a check. A stage passes at a cosine of 0.99999, a whole sampling at 0.9999, gradients and trained weights at a
relative error of 1e-3; token ids must be equal. On a GPU, in bf16, fp8 or nf4, bounds are looser and said below the rows.
Leaves with 1 when any check falls short.";

/// Compare the engine with reference tensors
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Folder with meta.json and safetensors files of reference tensors
    #[arg(value_name = "FIXTURES")]
    fixtures: PathBuf,
    #[command(flatten)]
    model: ModelArguments,
    /// Print the rows as JSON, those of single tensors included
    #[arg(long)]
    json: bool,
}

type Stage = fn(&Pipeline, &Fixtures, &str) -> Result<Vec<Row>>;

/// Kinds of files, in the order of a picture's making.
const KINDS: [(&str, Stage); 7] = [
    ("text", text::rows),
    ("transformer", transformer::rows),
    ("schedule", schedule::rows),
    ("sampling", sampling::rows),
    ("vae", vae::rows),
    ("lora_output", lora_output::rows),
    ("lora_step", lora_step::rows),
];

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let fixtures = Fixtures::open(&arguments.fixtures)?;
    let mut stages = Vec::new();
    for (kind, rows) in KINDS {
        stages.extend(fixtures.stages(kind)?.into_iter().map(|stage| (stage, rows)));
    }
    if stages.is_empty() {
        return Err(usage(format!("{}: no reference tensors, such as text.safetensors", fixtures.folder.display())));
    }
    let pipeline = arguments.model.load()?;
    let fixtures = fixtures.on(&pipeline.device);
    let bar = progress::bar(stages.len() as u64, "comparing");
    let mut rows = Vec::new();
    for (stage, compare) in stages {
        bar.set_message(stage.clone());
        match compare(&pipeline, &fixtures, &stage) {
            Err(error) if error.is::<Usage>() => return Err(error),
            Err(error) => rows.push(Row::verdict(&stage, "runs", Err(format!("{error:#}")))),
            Ok(more) => rows.extend(more),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    print(arguments, pipeline.placement.precision, &rows)
}

fn print(arguments: &Arguments, precision: Precision, rows: &[Row]) -> Result<ExitCode> {
    let failed = rows.iter().filter(|row| !row.pass).count();
    if arguments.json {
        let bounds = check::bounds(precision);
        output::say_json(
            &serde_json::json!({ "pass": failed == 0, "checks": rows.len(), "failed": failed, "bounds": bounds, "rows": rows }),
        )?;
    } else {
        output::say(check::table(rows))?;
        if precision != Precision::F32 {
            output::say(format_args!("\n{}", check::bounds(precision)))?;
        }
        output::say(match failed {
            0 => format!("\nall {} checks pass", rows.len()),
            failed => format!("\n{failed} of {} checks fall short", rows.len()),
        })?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
