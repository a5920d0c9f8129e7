//! `atelier bench`: how long loading, a picture and a training step take, and how much memory they need.

mod floor;
mod generate;
mod measured;
mod subject;
mod train;

use super::{
    arguments::ModelArguments,
    fault::usage,
    machine,
    output::{self, say},
    progress,
};
use ::train::{Dataset, Event, Recipe, Trainer, dataset::Limits};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use engine::{GenerateParams, Pipeline, Size};
use serde::Serialize;
use std::{path::Path, process::ExitCode, time::Instant};

const EXAMPLES: &str = "Examples:
  atelier bench
  atelier bench --size 192x288 --steps 12 --repeat 5 --json
  atelier bench generate --synthetic flux-dev --precision nf4 --size 512x512,1024x1024
  atelier bench train --synthetic flux-dev --precision nf4 --policy smart --json

The modes time single steps by the device's own clock and tell what was reached of what it could do.";

/// Tokens of the prompt that T5 reads; the reference is timed at the same.
const T5_LENGTH: usize = 128;
const PROMPT: &str = "a lake with mountains at sunset";

/// Measure loading, generation, training and memory
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    mode: Option<Mode>,
    #[command(flatten)]
    model: ModelArguments,
    /// Size of the pictures
    #[arg(long, default_value = "256x256", value_name = "WxH")]
    size: Size,
    /// Denoising steps a picture
    #[arg(long, default_value_t = 20, value_name = "N")]
    steps: usize,
    /// Pictures timed after the first, at least 3; training steps, at least 5
    #[arg(long, default_value_t = 3, value_name = "N")]
    repeat: usize,
    /// Print the measurements as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum Mode {
    Generate(generate::Arguments),
    Train(train::Arguments),
}

/// Seconds; medians where more than one was timed.
#[derive(Serialize)]
struct Measurements {
    load_s: f64,
    /// From the start of the process: loading and the first picture.
    first_picture_s: f64,
    picture_s: f64,
    /// LoRA of rank 4 on attention, batch of 1, AdamW, clipping: forward, backward and update.
    train_step_s: f64,
    peak_rss_mib: Option<u64>,
    threads: usize,
    size: Size,
    steps: usize,
    t5_length: usize,
    model: String,
    version: &'static str,
}

pub fn run(arguments: &Arguments, started: Instant) -> Result<ExitCode> {
    match &arguments.mode {
        Some(Mode::Generate(arguments)) => generate::run(arguments),
        Some(Mode::Train(arguments)) => train::run(arguments),
        None => everything(arguments, started),
    }
}

/// What can be repeated: enough for a median, not enough to wait for ever.
fn check_repeat(repeat: usize) -> Result<()> {
    const MOST: usize = 100;
    if (1..=MOST).contains(&repeat) { Ok(()) } else { Err(usage(format!("repeat {repeat} must be from 1 to {MOST}"))) }
}

fn everything(arguments: &Arguments, started: Instant) -> Result<ExitCode> {
    check_repeat(arguments.repeat)?;
    let params = GenerateParams { steps: arguments.steps, max_sequence_length: T5_LENGTH, ..GenerateParams::new(PROMPT, arguments.size) };
    params.check()?;
    let (load_s, pipeline) = timed(|| arguments.model.load())?;
    let picture = paint(&pipeline, &params)?;
    let first_picture_s = started.elapsed().as_secs_f64();
    let line = progress::waiting("timing pictures, then training steps");
    let picture_s = median(arguments.repeat.max(3), || timed(|| paint(&pipeline, &params)).map(|(seconds, _)| seconds))?;
    let train_step_s = train_step(&pipeline, arguments.size, &picture, arguments.repeat.max(5))?;
    line.finish_and_clear();
    let measured = Measurements {
        load_s,
        first_picture_s,
        picture_s,
        train_step_s,
        peak_rss_mib: machine::peak_memory_mib(),
        threads: rayon::current_num_threads(),
        size: arguments.size,
        steps: arguments.steps,
        t5_length: T5_LENGTH,
        model: pipeline.name,
        version: env!("CARGO_PKG_VERSION"),
    };
    print(arguments, &measured)
}

fn print(arguments: &Arguments, measured: &Measurements) -> Result<ExitCode> {
    if arguments.json {
        output::say_json(measured)?;
        return Ok(ExitCode::SUCCESS);
    }
    say(format_args!("{} at {}, {} steps, {} threads", measured.model, measured.size, measured.steps, measured.threads))?;
    for (name, seconds) in [
        ("load", measured.load_s),
        ("first picture, from process start", measured.first_picture_s),
        ("picture", measured.picture_s),
        ("training step", measured.train_step_s),
    ] {
        say(format_args!("{name:<34} {seconds:>8.3} s"))?;
    }
    if let Some(memory) = measured.peak_rss_mib {
        say(format_args!("{:<34} {memory:>8} MiB", "peak memory"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn paint(pipeline: &Pipeline, params: &GenerateParams) -> Result<image::RgbImage> {
    Ok(pipeline.generate(params.clone(), &mut |_| std::ops::ControlFlow::Continue(()))?.swap_remove(0))
}

/// Times the trainer itself on a set of one picture: what a run does at every step, less checkpoints and samples.
fn train_step(pipeline: &Pipeline, size: Size, picture: &image::RgbImage, repeat: usize) -> Result<f64> {
    const WARM_UP: usize = 2;
    let folder = tempfile::tempdir()?;
    let dataset = dataset(folder.path(), picture)?;
    let mut trainer = Trainer::start(pipeline, recipe(size, WARM_UP + repeat), dataset, &folder.path().join("run"))?;
    let mut seconds = Vec::new();
    while seconds.len() < WARM_UP + repeat {
        let (took, event) = timed(|| Ok(trainer.advance(pipeline)?))?;
        match event {
            Event::Step { .. } => seconds.push(took),
            Event::Finished { .. } => bail!("the training ended before it was timed"),
            _ => {}
        }
    }
    Ok(middle(seconds.split_off(WARM_UP)))
}

/// A set of one picture, in `folder`.
fn dataset(folder: &Path, picture: &image::RgbImage) -> Result<Dataset> {
    let data = folder.join("data");
    std::fs::create_dir(&data)?;
    picture.save(data.join("picture.png"))?;
    std::fs::write(data.join("picture.txt"), PROMPT)?;
    Ok(Dataset::open(&data, None, Limits::default(), folder)?)
}

fn recipe(size: Size, steps: usize) -> Recipe {
    Recipe {
        name: "bench".into(),
        rank: 4,
        alpha: 4.0,
        targets: "attention".into(),
        steps,
        learning_rate: 1e-4,
        weight_decay: 1e-4,
        resolution: size,
        buckets: false,
        max_sequence_length: T5_LENGTH,
        checkpoint_every: 0,
        ..Recipe::default()
    }
}

fn timed<T>(call: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let begun = Instant::now();
    let value = call()?;
    Ok((begun.elapsed().as_secs_f64(), value))
}

fn median(repeat: usize, call: impl FnMut() -> Result<f64>) -> Result<f64> {
    Ok(middle(std::iter::repeat_with(call).take(repeat).collect::<Result<_>>()?))
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_median_lies_in_the_middle() {
        assert_eq!(super::middle(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(super::middle(vec![4.0, 1.0, 2.0, 9.0]), 3.0);
    }
}
