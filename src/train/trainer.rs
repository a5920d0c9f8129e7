//! Fine-tunes an adapter: prepare, step, checkpoint, sample, finish. The whole of training on one page.

use crate::batch::Batches;
use crate::cache::{Audit, Cache};
use crate::lora::{self, Lora};
use crate::objective::check_finite;
use crate::optimizer::{self, Optimizer, schedule};
use crate::run::Run;
use crate::samples::{Progress, Samples};
use crate::state::{self, State};
use crate::tensor_file::TensorFile;
use crate::tensorboard::EventFile;
use crate::{Dataset, Recipe, Result};
use engine::transformer::Checkpointing;
use engine::{Adapter, Pipeline};
use image::RgbImage;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A run of training: owns its state; lent the pipeline for one small piece of work at a time.
pub struct Trainer {
    run: Run,
    cache: Cache,
    batches: Batches,
    lora: Lora,
    optimizer: Box<dyn Optimizer>,
    state: State,
    gathered: Gathered,
    events: EventFile,
    phase: Phase,
}

enum Phase {
    /// The next item to encode.
    Prepare(usize),
    Train,
    Checkpoint,
    Sample(Samples),
    Finish,
    Done,
}

/// Micro-batches of the optimiser step in the making.
struct Gathered {
    micro: usize,
    loss: f64,
    gradients: Vec<f32>,
    seconds: f64,
}

/// What one call of [`Trainer::advance`] did.
#[derive(Debug)]
pub enum Event {
    /// A picture and its caption were encoded (or found in the cache).
    Prepared { done: usize, total: usize },
    /// A micro-batch whose optimiser step is not complete yet.
    Accumulated { done: usize, of: usize },
    /// An optimiser step: `step` counts from 1.
    Step { step: usize, steps: usize, loss: f64, learning_rate: f64, gradient_norm: f64, seconds: f64 },
    /// A denoising step of a sample picture.
    Sampling { prompt: String, done: usize, steps: usize },
    /// A finished sample picture, written to `path`.
    Sample { step: usize, prompt: String, path: PathBuf, picture: RgbImage },
    /// State and adapter so far are on disk: `adapter` is a loadable adapter file.
    Checkpoint { step: usize, folder: PathBuf, adapter: PathBuf },
    /// The run is complete; `adapter` is `pytorch_lora_weights.safetensors`.
    Finished { adapter: PathBuf },
}

impl Trainer {
    /// Starts a run in `folder` (created; refused when it already holds a run). Checks recipe, dataset and targets against the model first; writes recipe and dataset description.
    pub fn start(pipeline: &Pipeline, recipe: Recipe, dataset: Dataset, folder: &Path) -> Result<Self> {
        recipe.check()?;
        let lora = Lora::new(pipeline, &recipe)?;
        let run = Run::create(pipeline, recipe, dataset, folder)?;
        Self::open(pipeline, run, lora)
    }

    /// Goes on from the newest whole checkpoint in `folder` (or from the beginning when there is none), bit-identical to a run that was never interrupted.
    /// Refuses when recipe, dataset or model differ from those of the run (`recipe.steps` may grow).
    pub fn resume(pipeline: &Pipeline, dataset: Dataset, folder: &Path) -> Result<Self> {
        let run = Run::reopen(pipeline, dataset, folder)?;
        let lora = Lora::new(pipeline, &run.recipe)?;
        Self::open(pipeline, run, lora)
    }

    pub fn recipe(&self) -> &Recipe {
        &self.run.recipe
    }

    /// Optimiser steps done.
    pub fn step(&self) -> usize {
        self.state.step
    }

    /// The loss of every step so far: the curve, also of what came before a resume.
    pub fn losses(&self) -> &[f64] {
        &self.state.losses
    }

    /// Caption ↔ picture as the cache holds them; complete once everything is prepared.
    pub fn audit(&self) -> Result<Audit> {
        self.cache.audit(&self.run.dataset)
    }

    /// The adapter as it is now, to make a picture with between two steps.
    pub fn adapter(&self) -> Result<Adapter> {
        self.lora.to_adapter(self.run.name(), self.run.header())
    }

    /// Makes the run longer (never shorter than it is).
    pub fn extend(&mut self, steps: usize) -> Result<()> {
        let recipe = Recipe { steps: steps.max(self.state.step), ..self.run.recipe.clone() };
        recipe.check()?;
        self.run.replace_recipe(recipe)?;
        if matches!(self.phase, Phase::Finish | Phase::Done) && self.state.step < self.run.recipe.steps {
            self.phase = Phase::Train;
        }
        Ok(())
    }

    /// One unit of work: one picture encoded, one micro-batch, one denoising step of a sample, one checkpoint.
    /// An error changes nothing: the same unit can be tried again.
    pub fn advance(&mut self, pipeline: &Pipeline) -> Result<Event> {
        match self.phase {
            Phase::Prepare(index) => self.prepare(pipeline, index),
            Phase::Train => self.micro_step(pipeline),
            Phase::Checkpoint => {
                let event = self.checkpoint()?;
                self.phase = self.after_checkpoint()?;
                Ok(event)
            }
            Phase::Sample(_) => self.sample(pipeline),
            Phase::Finish => self.finish(),
            Phase::Done => Ok(Event::Finished { adapter: self.run.adapter_file() }),
        }
    }

    /// Writes a checkpoint now, out of turn: before a stop. Micro-batches of an unfinished step are drawn again after a resume.
    pub fn checkpoint(&mut self) -> Result<Event> {
        let mut tensors = TensorFile::default();
        self.lora.save(&mut tensors);
        self.optimizer.save(&mut tensors);
        let keep = self.run.recipe.keep_checkpoints;
        let folder = state::save(&self.run.folder, &self.state, &tensors, &self.adapter()?, keep)?;
        let adapter = folder.join(state::ADAPTER);
        Ok(Event::Checkpoint { step: self.state.step, folder, adapter })
    }

    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    fn open(pipeline: &Pipeline, run: Run, mut lora: Lora) -> Result<Self> {
        let mut optimizer = optimizer::new(&run.recipe, &lora.lengths());
        let mut state = State { step: 0, seed: run.recipe.seed, losses: Vec::new(), run: run.identity() };
        if let Some(checkpoint) = state::newest(&run.folder)? {
            checkpoint.state.run.check(&state.run)?;
            lora.restore(&checkpoint.tensors)?;
            optimizer.restore(&checkpoint.tensors)?;
            state = checkpoint.state;
        }
        let cache = Cache::open(pipeline, &run.recipe, &run.folder.join("cache"))?;
        let batches = Batches::new(&run.recipe, &run.dataset);
        let events = EventFile::create(&run.folder, state.step + 1)?;
        let gathered = Gathered::nothing(lora.parameters());
        Ok(Self { run, cache, batches, lora, optimizer, state, gathered, events, phase: Phase::Prepare(0) })
    }

    fn prepare(&mut self, pipeline: &Pipeline, index: usize) -> Result<Event> {
        let (item, total) = (&self.run.dataset.items[index], self.run.dataset.items.len());
        self.cache.prepare(pipeline, &self.run.dataset, item, self.batches.frames(index))?;
        let done = index + 1;
        if done == total {
            if self.run.recipe.caption_dropout > 0.0 {
                self.cache.prepare_nothing(pipeline)?;
            }
            self.cache.save()?;
        }
        self.phase = match done == total {
            false => Phase::Prepare(done),
            // A run that was stopped between a checkpoint and its samples makes them up.
            true if self.is_at_checkpoint() => self.after_checkpoint()?,
            true => Phase::Train,
        };
        Ok(Event::Prepared { done, total })
    }

    fn micro_step(&mut self, pipeline: &Pipeline) -> Result<Event> {
        let started = Instant::now();
        let (step, recipe) = (self.state.step + 1, &self.run.recipe);
        let batch = self.batches.draw(pipeline, recipe, &self.run.dataset, &self.cache, step, self.gathered.micro)?;
        let checkpointing = if recipe.gradient_checkpointing { Checkpointing::Full } else { Checkpointing::None };
        let (noisy, adapters, variables) = (&batch.example.noisy, self.lora.mounted(), self.lora.variables());
        let (loss, gradients) =
            pipeline.transformer.gradients(noisy, &batch.step(), &adapters, &variables, checkpointing, &|v| batch.example.loss(v))?;
        let loss = f64::from(loss.to_scalar::<f32>()?);
        self.gathered.add(check_finite("loss", loss, step)?, &lora::flatten(gradients.iter())?, started);
        if self.gathered.micro < recipe.accumulate {
            return Ok(Event::Accumulated { done: self.gathered.micro, of: recipe.accumulate });
        }
        self.optimizer_step(step)
    }

    fn optimizer_step(&mut self, step: usize) -> Result<Event> {
        let recipe = &self.run.recipe;
        let Gathered { loss, mut gradients, seconds, .. } =
            std::mem::replace(&mut self.gathered, Gathered::nothing(self.lora.parameters()));
        let (loss, share) = (loss / recipe.accumulate as f64, 1.0 / recipe.accumulate as f32);
        gradients.iter_mut().for_each(|gradient| *gradient *= share);
        let gradient_norm = check_finite("gradient", optimizer::clip(&mut gradients, recipe.max_grad_norm), step)?;
        let learning_rate = schedule::learning_rate(recipe, step);
        self.lora.update(|weights| self.optimizer.step(step, learning_rate, weights, &gradients))?;
        self.state.step = step;
        self.state.losses.push(loss);
        if self.is_at_checkpoint() {
            self.phase = Phase::Checkpoint;
        }
        self.events.scalars(step, &[("loss", loss), ("learning_rate", learning_rate), ("gradient_norm", gradient_norm)])?;
        Ok(Event::Step { step, steps: self.run.recipe.steps, loss, learning_rate, gradient_norm, seconds })
    }

    fn sample(&mut self, pipeline: &Pipeline) -> Result<Event> {
        let Phase::Sample(samples) = &mut self.phase else { unreachable!("called in this phase only") };
        let (step, recipe) = (samples.step, &self.run.recipe);
        let index = samples.prompt().expect("the phase ends with the last sample");
        let prompt = recipe.sample_prompts[index].clone();
        let (path, picture) = match samples.advance(pipeline, recipe, index)? {
            Progress::Denoised { done } => return Ok(Event::Sampling { prompt, done, steps: recipe.sample_steps }),
            Progress::Picture { path, picture } => (path, picture),
        };
        if samples.prompt().is_none() {
            self.phase = self.after_samples();
        }
        self.events.picture(step, &format!("sample/{index}"), &picture)?;
        Ok(Event::Sample { step, prompt, path, picture })
    }

    fn finish(&mut self) -> Result<Event> {
        let adapter = self.run.adapter_file();
        self.adapter()?.save(&adapter)?;
        self.run.describe_adapter(&self.state, self.lora.parameters())?;
        self.phase = Phase::Done;
        Ok(Event::Finished { adapter })
    }

    fn is_at_checkpoint(&self) -> bool {
        let (step, every) = (self.state.step, self.run.recipe.checkpoint_every);
        step > 0 && (step >= self.run.recipe.steps || (every > 0 && step.is_multiple_of(every)))
    }

    fn after_checkpoint(&self) -> Result<Phase> {
        let samples = Samples::missing(&self.run.recipe, &self.run.folder, self.state.step, || self.adapter())?;
        Ok(samples.map_or_else(|| self.after_samples(), Phase::Sample))
    }

    fn after_samples(&self) -> Phase {
        if self.state.step < self.run.recipe.steps { Phase::Train } else { Phase::Finish }
    }
}

impl Gathered {
    fn nothing(parameters: usize) -> Self {
        Self { micro: 0, loss: 0.0, gradients: vec![0.0; parameters], seconds: 0.0 }
    }

    fn add(&mut self, loss: f64, gradients: &[f32], started: Instant) {
        self.gradients.iter_mut().zip(gradients).for_each(|(sum, gradient)| *sum += gradient);
        self.loss += loss;
        self.micro += 1;
        self.seconds += started.elapsed().as_secs_f64();
    }
}
