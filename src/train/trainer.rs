//! Fine-tunes an adapter: prepare, step, checkpoint, sample, finish. The whole of training on one page.

use crate::ahead::Ahead;
use crate::batch::Batches;
use crate::cache::{Audit, Cache};
use crate::estimate;
use crate::lora::Lora;
use crate::number::Number;
use crate::objective::check_finite;
use crate::optimizer::schedule;
use crate::recipe::Policy;
use crate::run::Run;
use crate::samples::{Progress, Samples};
use crate::state::{self, State};
use crate::tensor_file::TensorFile;
use crate::tensorboard::EventFile;
use crate::update::{Settings, Update};
use crate::{Dataset, Recipe, Result};
use engine::device::Mark;
use engine::memory::Workload;
use engine::residence::Part;
use engine::transformer::{Checkpointing, Gradients};
use engine::{Adapter, Pipeline};
use image::RgbImage;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// A run of training: owns its state; lent the pipeline for one small piece of work at a time.
pub struct Trainer {
    run: Run,
    cache: Cache,
    batches: Batches,
    ahead: Ahead,
    lora: Lora,
    update: Update,
    state: State,
    gathered: Gathered,
    /// Steps that were taken, and whose numbers are still on their way from the device.
    taken: VecDeque<Taken>,
    events: EventFile,
    phase: Phase,
    plan: Plan,
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

/// What decides the run's memory, and what is kept for the backward pass.
struct Plan {
    workload: Workload,
    checkpointing: Checkpointing,
}

/// Micro-batches of the optimiser step in the making.
struct Gathered {
    gradients: Gradients,
    losses: Vec<Number>,
    /// Begin and end of each.
    times: Vec<(Mark, Mark)>,
}

/// A step whose numbers nobody has waited for yet.
struct Taken {
    step: usize,
    learning_rate: f64,
    norm: Number,
    losses: Vec<Number>,
    times: Vec<(Mark, Mark)>,
}

/// So far the host may run ahead of a GPU: enough to keep it busy, and little enough that a stop or a picture soon has its turn.
const AHEAD: usize = 2;

/// What one call of [`Trainer::advance`] did.
#[derive(Debug)]
pub enum Event {
    /// A picture and its caption were encoded (or found in the cache).
    Prepared { done: usize, total: usize },
    /// A micro-batch whose optimiser step is not complete yet, or was taken by a GPU that has not told its numbers yet.
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
        let (lora, plan) = (Lora::new(pipeline, &recipe)?, Plan::of(pipeline, &recipe)?);
        let run = Run::create(pipeline, recipe, dataset, folder)?;
        Self::open(pipeline, run, lora, plan)
    }

    /// Goes on from the newest whole checkpoint in `folder` (or from the beginning when there is none), bit-identical to a run that was never interrupted.
    /// Refuses when recipe, dataset or model differ from those of the run (`recipe.steps` may grow).
    pub fn resume(pipeline: &Pipeline, dataset: Dataset, folder: &Path) -> Result<Self> {
        let run = Run::reopen(pipeline, dataset, folder)?;
        let (lora, plan) = (Lora::new(pipeline, &run.recipe)?, Plan::of(pipeline, &run.recipe)?);
        Self::open(pipeline, run, lora, plan)
    }

    /// Has the run in `folder` keep more or less for the backward pass when it is resumed: its result stays the same.
    pub fn change_policy(folder: &Path, policy: Policy) -> Result<()> {
        Run::change_policy(folder, policy)
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
    /// An error changes nothing: the same unit can be tried again, an unfinished optimiser step from its first micro-batch.
    pub fn advance(&mut self, pipeline: &Pipeline) -> Result<Event> {
        let waits = !matches!(self.phase, Phase::Train) || self.taken.len() >= AHEAD;
        if let Some(event) = self.told(waits)? {
            return Ok(event);
        }
        match self.phase {
            Phase::Prepare(index) => self.prepare(pipeline, index),
            Phase::Train => self.micro_step(pipeline).or_else(|error| self.gathered.clear().and(Err(error))),
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

    /// The next step that was taken and not told yet; waits for it. To be asked before a checkpoint out of turn, until there is none.
    pub fn settle(&mut self) -> Result<Option<Event>> {
        self.told(true)
    }

    /// Writes a checkpoint now, out of turn: before a stop. Micro-batches of an unfinished step are drawn again after a resume.
    pub fn checkpoint(&mut self) -> Result<Event> {
        while self.settle()?.is_some() {}
        let mut tensors = TensorFile::default();
        self.update.save(&mut tensors)?;
        let keep = self.run.recipe.keep_checkpoints;
        let folder = state::save(&self.run.folder, &self.state, &tensors, &self.adapter()?, keep)?;
        let adapter = folder.join(state::ADAPTER);
        Ok(Event::Checkpoint { step: self.state.step, folder, adapter })
    }

    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    fn open(pipeline: &Pipeline, run: Run, lora: Lora, plan: Plan) -> Result<Self> {
        let mut update = Update::new(&run.recipe, &lora, &pipeline.device)?;
        let mut state = State { step: 0, seed: run.recipe.seed, losses: Vec::new(), run: run.identity() };
        if let Some(checkpoint) = state::newest(&run.folder)? {
            checkpoint.state.run.check(&state.run)?;
            update.restore(&checkpoint.tensors, &lora)?;
            state = checkpoint.state;
        }
        let cache = Cache::open(pipeline, &run.recipe, &run.folder.join("cache"))?;
        let (batches, ahead) = (Batches::new(&run.recipe, &run.dataset), Ahead::new(pipeline, &run.recipe)?);
        let events = EventFile::create(&run.folder, state.step + 1)?;
        let gathered = Gathered::nothing(Gradients::zeros(&lora.variables(), &pipeline.device)?);
        let (taken, phase) = (VecDeque::new(), Phase::Prepare(0));
        Ok(Self { run, cache, batches, ahead, lora, update, state, gathered, taken, events, phase, plan })
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
        let (step, recipe) = (self.state.step + 1, &self.run.recipe);
        pipeline.make_room(Part::Transformer, &self.plan.workload)?;
        let begun = Mark::now(&pipeline.device)?;
        let (batches, dataset, cache, micro) = (&self.batches, &self.run.dataset, &self.cache, self.gathered.losses.len());
        let index = (step - 1) * recipe.accumulate + micro;
        let modulations = self.ahead.of(index, pipeline, recipe, |range| batches.moments(pipeline, recipe, dataset, cache, range))?;
        let batch = batches.draw(pipeline, recipe, dataset, cache, step, micro)?;
        let (noisy, adapters, gradients) = (&batch.example.noisy, self.lora.mounted(), &self.gathered.gradients);
        let loss = pipeline.transformer.add_gradients(
            noisy,
            &batch.step_with(modulations.as_ref()),
            &adapters,
            gradients,
            self.plan.checkpointing,
            &|v| batch.example.loss(v),
        )?;
        let loss = Number::of(&loss)?;
        if let Number::Known(loss) = loss {
            check_finite("loss", loss, step)?;
        }
        self.gathered.losses.push(loss);
        self.gathered.times.push((begun, Mark::now(&pipeline.device)?));
        let done = self.gathered.losses.len();
        if done < recipe.accumulate {
            return Ok(Event::Accumulated { done, of: recipe.accumulate });
        }
        self.optimizer_step(step)?;
        Ok(self.told(false)?.unwrap_or(Event::Accumulated { done, of: done }))
    }

    fn optimizer_step(&mut self, step: usize) -> Result<()> {
        let recipe = &self.run.recipe;
        let learning_rate = schedule::learning_rate(recipe, step);
        let settings = Settings { step, learning_rate, accumulated: recipe.accumulate, max_grad_norm: recipe.max_grad_norm };
        let norm = self.update.step(settings, self.gathered.gradients.flat(), &self.lora)?;
        let (losses, times) = self.gathered.clear()?;
        self.taken.push_back(Taken { step, learning_rate, norm, losses, times });
        self.state.step = step;
        if self.is_at_checkpoint() {
            self.phase = Phase::Checkpoint;
        }
        Ok(())
    }

    /// The oldest step that was not told yet: when its numbers are there, or after waiting for them.
    fn told(&mut self, waits: bool) -> Result<Option<Event>> {
        if !self.taken.front().is_some_and(|taken| waits || taken.is_there()) {
            return Ok(None);
        }
        let Some(taken) = self.taken.pop_front() else { return Ok(None) };
        let (step, learning_rate) = (taken.step, taken.learning_rate);
        let (loss, gradient_norm, seconds) = taken.numbers()?;
        self.state.losses.push(loss);
        self.events.scalars(step, &[("loss", loss), ("learning_rate", learning_rate), ("gradient_norm", gradient_norm)])?;
        Ok(Some(Event::Step { step, steps: self.run.recipe.steps, loss, learning_rate, gradient_norm, seconds }))
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

impl Plan {
    /// A run that cannot fit the GPU is refused.
    fn of(pipeline: &Pipeline, recipe: &Recipe) -> Result<Self> {
        let workload = estimate::workload(recipe, pipeline.transformer.linears())?;
        let policy = recipe.gradient_checkpointing;
        let checkpointing = policy.resolve(&pipeline.sizes, pipeline.placement, &workload, pipeline.budget()?);
        let workload = workload.with(checkpointing);
        pipeline.check_memory(&workload)?;
        Ok(Self { workload, checkpointing })
    }
}

impl Gathered {
    fn nothing(gradients: Gradients) -> Self {
        Self { gradients, losses: Vec::new(), times: Vec::new() }
    }

    /// Begins anew; returns what was heard of the micro-batches.
    fn clear(&mut self) -> Result<(Vec<Number>, Vec<(Mark, Mark)>)> {
        self.gradients.clear()?;
        Ok((std::mem::take(&mut self.losses), std::mem::take(&mut self.times)))
    }
}

impl Taken {
    fn is_there(&self) -> bool {
        self.norm.is_there() && self.losses.iter().all(Number::is_there)
    }

    /// Mean loss, norm of the gradients, and seconds of the micro-batches.
    fn numbers(self) -> Result<(f64, f64, f64)> {
        let count = self.losses.len() as f64;
        let mut loss = 0.0;
        for one in self.losses {
            loss += check_finite("loss", one.wait()?, self.step)?;
        }
        let norm = check_finite("gradient", self.norm.wait()?, self.step)?;
        let mut seconds = 0.0;
        for (begun, ended) in &self.times {
            seconds += ended.seconds_since(begun)?;
        }
        Ok((loss / count, norm, seconds))
    }
}
