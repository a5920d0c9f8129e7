//! `atelier train`: fine-tunes an adapter on a folder or zip of pictures.

use super::{
    arguments::ModelArguments,
    fault::{STOPPED, usage},
    output::{self, check_writable, note, say},
    progress, settings, stop,
};
use anyhow::Result;
use clap::Args;
use engine::Pipeline;
use indicatif::ProgressBar;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};
use train::{Dataset, Event, Trainer, dataset::Limits};

const EXAMPLES: &str = "Examples:
  atelier train --data public/style-sets/impressionist --out out/impressionist --recipe impressionist
  atelier train --data my-pictures.zip --out out/mine --trigger \"in my style\" --steps 300 --rank 8
  atelier train --data public/style-sets/mucha --out out/mucha --recipe mucha --set warmup_steps=20 --set flip=true
  atelier train --data public/style-sets/mucha --out out/mucha --resume

Pictures have captions in metadata.jsonl (`file_name`, `text`), in a .txt file beside each, or share a trigger phrase.
Ctrl-C writes a checkpoint first. Recipes: quick, impressionist, mucha, thorough, reference, or a TOML file; `--set` takes any of its fields.";

/// Fine-tune an adapter on pictures of a style
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct Arguments {
    /// Folder or zip of pictures
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Folder of the run: adapter, checkpoints, samples, TensorBoard events
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    model: ModelArguments,
    /// Phrase that every caption ends in, and that calls the style later
    #[arg(long, value_name = "T")]
    trigger: Option<String>,
    #[command(flatten)]
    settings: settings::Arguments,
    /// Go on from the last checkpoint in --out
    #[arg(long)]
    resume: bool,
    /// Print which caption belongs to which picture first
    #[arg(long)]
    audit: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, started: Instant) -> Result<ExitCode> {
    arguments.settings.recipe(None)?;
    check_writable(&arguments.out)?;
    let scratch = tempfile::tempdir()?;
    let dataset = Dataset::open(&arguments.data, arguments.trigger.as_deref(), Limits::default(), scratch.path())?;
    dataset.notes.iter().for_each(note);
    let pipeline = arguments.model.load()?;
    let mut trainer = begin(arguments, &pipeline, dataset)?;
    stop::listen();
    let mut watch = Watch::new(trainer.step(), trainer.recipe().steps);
    while !trainer.is_finished() && !stop::asked() {
        let event = trainer.advance(&pipeline)?;
        if arguments.audit && matches!(event, Event::Prepared { done, total } if done == total) {
            let audit = trainer.audit()?;
            watch.bar.suspend(|| say(audit))?;
        }
        watch.see(event);
    }
    watch.bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    match watch.adapter {
        Some(adapter) if trainer.is_finished() => finished(arguments, &trainer, &adapter, seconds),
        _ => stopped(arguments, &mut trainer),
    }
}

fn begin(arguments: &Arguments, pipeline: &Pipeline, dataset: Dataset) -> Result<Trainer> {
    if !arguments.resume {
        let recipe = arguments.settings.recipe(Some(pipeline))?;
        return Ok(Trainer::start(pipeline, recipe, dataset, &arguments.out)?);
    }
    if !arguments.out.is_dir() {
        return Err(usage(format!("--resume: {} does not exist; leave --resume away to start a run", arguments.out.display())));
    }
    if let Some(policy) = arguments.settings.policy()? {
        Trainer::change_policy(&arguments.out, policy)?;
    }
    let mut trainer = Trainer::resume(pipeline, dataset, &arguments.out)?;
    arguments.settings.check_same(trainer.recipe(), pipeline)?;
    if let Some(steps) = arguments.settings.steps {
        trainer.extend(steps)?;
    }
    Ok(trainer)
}

/// What the person at the terminal sees of the run, and what is told at its end.
struct Watch {
    bar: ProgressBar,
    /// Of this sitting.
    losses: Vec<f64>,
    adapter: Option<PathBuf>,
}

impl Watch {
    fn new(done: usize, steps: usize) -> Self {
        let bar = progress::bar(steps as u64, "training");
        bar.set_position(done as u64);
        bar.reset_eta();
        Self { bar, losses: Vec::new(), adapter: None }
    }

    fn see(&mut self, event: Event) {
        match event {
            Event::Prepared { done, total } => self.bar.set_message(format!("reading pictures {done}/{total}")),
            Event::Accumulated { .. } => {}
            Event::Step { step, loss, learning_rate, .. } => {
                self.losses.push(loss);
                self.bar.set_position(step as u64);
                self.bar.set_message(format!("loss {:.4}  lr {learning_rate:.1e}", mean(self.losses.iter().rev().take(20))));
            }
            Event::Sampling { done, steps, .. } => self.bar.set_message(format!("sample picture, step {done}/{steps}")),
            Event::Sample { step, path, .. } => {
                tracing::info!(step, path = %path.display(), "sample");
                self.bar.println(format!("step {step}: sample {}", path.display()));
            }
            Event::Checkpoint { step, folder, .. } => tracing::info!(step, folder = %folder.display(), "checkpoint"),
            Event::Finished { adapter } => self.adapter = Some(adapter),
        }
    }
}

fn finished(arguments: &Arguments, trainer: &Trainer, adapter: &Path, seconds: f64) -> Result<ExitCode> {
    let losses = trainer.losses();
    let tenth = (losses.len() / 10).max(1);
    let (first, last) = (mean(losses.iter().take(tenth)), mean(losses.iter().rev().take(tenth)));
    if arguments.json {
        output::say_json(&serde_json::json!({
            "adapter": adapter, "run": arguments.out, "steps": trainer.step(), "seconds": seconds, "stopped": false,
            "loss_first": first, "loss_last": last,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let size = trainer.recipe().resolution;
    let ending = arguments.trigger.as_deref().map(|trigger| format!(", {trigger}")).unwrap_or_default();
    say(format_args!("adapter  {}", adapter.display()))?;
    say(format_args!("{} steps in {seconds:.0} s; mean loss {first:.4} at first, {last:.4} at last", trainer.step()))?;
    say(format_args!(
        "try it   atelier generate --prompt \"a lake with mountains{ending}\" --width {} --height {} --adapter {} --out picture.png",
        size.width(),
        size.height(),
        quoted(&arguments.out)
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn stopped(arguments: &Arguments, trainer: &mut Trainer) -> Result<ExitCode> {
    trainer.checkpoint()?;
    note(format_args!("stopped at step {} of {}; the checkpoint is written", trainer.step(), trainer.recipe().steps));
    let trigger = arguments.trigger.as_deref().map(|trigger| format!(" --trigger {trigger:?}")).unwrap_or_default();
    note(format_args!("go on with: atelier train --data {} --out {}{trigger} --resume", quoted(&arguments.data), quoted(&arguments.out)));
    if arguments.json {
        output::say_json(&serde_json::json!({ "run": arguments.out, "steps": trainer.step(), "stopped": true }))?;
    }
    Ok(STOPPED.into())
}

fn mean<'a>(values: impl Iterator<Item = &'a f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count.max(1))
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.chars().all(|c| c.is_alphanumeric() || "/._-:\\~".contains(c));
    if plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
