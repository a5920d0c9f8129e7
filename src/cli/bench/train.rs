//! `atelier bench train`: a training micro-step with its update by the device's clock, as the trainer itself takes it.

use super::{
    dataset,
    measured::{Measured, Step},
    recipe,
    subject::{Subject, seconds},
};
use ::train::{
    Recipe, Trainer, estimate,
    recipe::{OptimizerKind, Policy},
};
use anyhow::Result;
use clap::Args;
use engine::{
    Pipeline, Size,
    device::{self, Mark},
    flops::Flops,
    residence::Part,
};
use image::{Rgb, RgbImage};
use std::process::ExitCode;

/// Time training steps
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    subject: Subject,
    /// What is kept for the backward pass: auto, none, smart or full
    #[arg(long, default_value = "auto", value_name = "POLICY")]
    policy: Policy,
    /// Rank of the adapter
    #[arg(long, default_value_t = 4, value_name = "R")]
    rank: usize,
    /// Layers that it sits on, as in a recipe
    #[arg(long, default_value = "attention", value_name = "TARGETS")]
    targets: String,
    /// Pictures at once
    #[arg(long, default_value_t = 1, value_name = "N")]
    batch_size: usize,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    arguments.subject.report(|pipeline, size| measure(arguments, pipeline, size), |_| None)
}

fn measure(arguments: &Arguments, pipeline: &Pipeline, size: Size) -> Result<Measured> {
    let subject = &arguments.subject;
    let recipe = recipe_for(arguments, size);
    let workload = estimate::workload(&recipe, pipeline.transformer.linears())?;
    let checkpointing = recipe.gradient_checkpointing.resolve(&pipeline.sizes, pipeline.placement, &workload, pipeline.budget()?);
    let peak = pipeline.peak(&workload.with(checkpointing));
    let (seconds, peak_bytes) = train(arguments, pipeline, recipe, size)?;
    let config = &pipeline.transformer.config;
    let example = Flops::forward(config, size.tokens(), subject.text_tokens).micro_step(config, checkpointing);
    let rows = arguments.batch_size as f64;
    let work = Flops { linear: rows * example.linear, attention: rows * example.attention };
    let predicted_bytes = peak.transformer + peak.step;
    let step = Step { mode: "train", size, text_tokens: subject.text_tokens, work, seconds, predicted_bytes };
    Measured::new(pipeline, step, peak_bytes)
        .with("checkpointing", format!("{checkpointing:?}").to_lowercase())?
        .with("rank", arguments.rank)?
        .with("targets", &arguments.targets)?
        .with("batch_size", arguments.batch_size)
}

fn recipe_for(arguments: &Arguments, size: Size) -> Recipe {
    // More steps than are taken: none of those that are timed is the last, which writes a checkpoint.
    let steps = arguments.subject.warm_up + arguments.subject.repeat + 2;
    Recipe {
        rank: arguments.rank,
        alpha: arguments.rank as f64,
        targets: arguments.targets.clone(),
        batch_size: arguments.batch_size,
        max_sequence_length: arguments.subject.text_tokens,
        optimizer: OptimizerKind::AdamW8bit,
        gradient_checkpointing: arguments.policy,
        ..recipe(size, steps)
    }
}

/// Seconds of each step after the warm-up, and the most bytes alive meanwhile: encoders and VAE have left.
fn train(arguments: &Arguments, pipeline: &Pipeline, recipe: Recipe, size: Size) -> Result<(Vec<f64>, Option<u64>)> {
    let Subject { warm_up, repeat, .. } = arguments.subject;
    let folder = tempfile::tempdir()?;
    let picture = RgbImage::from_fn(size.width() as u32, size.height() as u32, |x, y| Rgb([x as u8, y as u8, (x + y) as u8]));
    let mut trainer = Trainer::start(pipeline, recipe, dataset(folder.path(), &picture)?, &folder.path().join("run"))?;
    // The set's one picture is encoded first.
    trainer.advance(pipeline)?;
    pipeline.evict(Part::TextEncoder);
    pipeline.evict(Part::Vae);
    device::reset_peak(&pipeline.device)?;
    let mut marks = vec![Mark::now(&pipeline.device)?];
    while marks.len() <= warm_up + repeat {
        let before = trainer.step();
        trainer.advance(pipeline)?;
        // A call may also tell the numbers of a step that the device has finished.
        if trainer.step() > before {
            marks.push(Mark::now(&pipeline.device)?);
        }
    }
    Ok((seconds(&marks, warm_up)?, device::peak(&pipeline.device)?))
}
