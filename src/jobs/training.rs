//! A training run: the trainer advances on the device, and what it reports becomes rows, events and an adapter that can be used meanwhile.

use super::{
    device::{Ended, Task},
    progress::Reporter,
    resident::Resident,
    stop::{Stop, StopSignal},
    worker::Worker,
};
use crate::store::{Claimed, now, trainings::TRAINING_FOLDER};
use anyhow::{Context, Result};
use app::api::{AdapterId, AdapterInfo, Event, LossPoint, TrainRequest};
use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::mpsc;
use train::{Dataset, Recipe, Trainer, dataset::Limits};

/// What [`TrainRequest`] becomes when it is stored: everything that the run needs to be done, or gone on with, on its own.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct TrainJob {
    pub request: TrainRequest,
    pub dataset_name: String,
    pub trigger: Option<String>,
    pub recipe: Recipe,
    /// The adapter to be.
    pub adapter: AdapterId,
}

/// Below a run's folder: the pictures and captions as they were when it began.
pub const DATASET_FOLDER: &str = "dataset";

pub async fn run(worker: &Worker, claimed: &Claimed, reporter: &mut Reporter) -> Result<Ended> {
    let job: TrainJob = claimed.request()?;
    let steps = job.recipe.steps as u32;
    reporter.progress("preparing", claimed.checkpoint.unwrap_or(0), steps).await?;
    let folder = worker.store.run_folder(&claimed.claim.run);
    let (snapshot, trigger) = (folder.join(DATASET_FOLDER), job.trigger.clone());
    let dataset = tokio::task::spawn_blocking(move || open_dataset(&snapshot, trigger)).await??;
    // Unbounded: a report is a few hundred bytes, and the device must never wait for a disk.
    let (reports, heard) = mpsc::unbounded_channel();
    let stop = worker.hub.signal(&claimed.claim.run);
    let begin = Begin { recipe: job.recipe.clone(), dataset, folder: folder.join(TRAINING_FOLDER) };
    let task = TrainTask { begin: Some(begin), trainer: None, reports, stop };
    let mut listener = Listener { worker, claimed, job: &job, reporter, steps, step: claimed.checkpoint.unwrap_or(0) };
    let listen = async {
        // Moved in here: when a row cannot be written, the device hears that nobody listens.
        let mut heard = heard;
        while let Some(report) = heard.recv().await {
            listener.hear(report).await?;
        }
        Ok(())
    };
    let (ended, listened) = tokio::join!(worker.device.run(task), listen);
    listened.and(ended)
}

fn open_dataset(snapshot: &Path, trigger: Option<String>) -> Result<Dataset> {
    let dataset = Dataset::open(snapshot, None, Limits::default(), snapshot)?;
    Ok(Dataset { trigger, ..dataset })
}

struct Listener<'a> {
    worker: &'a Worker,
    claimed: &'a Claimed,
    job: &'a TrainJob,
    reporter: &'a mut Reporter,
    steps: u32,
    /// Optimiser steps done.
    step: u32,
}

impl Listener<'_> {
    async fn hear(&mut self, report: train::Event) -> Result<()> {
        use train::Event::*;
        match report {
            Prepared { done, total } => Ok(self.reporter.progress("encoding pictures", done as u32, total as u32).await?),
            Accumulated { .. } => Ok(()),
            Step { step, loss, learning_rate, gradient_norm, .. } => {
                self.stepped(LossPoint { step: step as u32, loss, learning_rate, gradient_norm }).await
            }
            Sampling { .. } => Ok(self.reporter.progress("drawing samples", self.step, self.steps).await?),
            Sample { step, prompt, path, .. } => {
                let sample = self.worker.store.add_sample(&self.claimed.claim, step as u32, &prompt, &path).await?;
                self.reporter.send(Event::Sample { sample });
                Ok(())
            }
            Checkpoint { step, adapter, .. } => self.checkpointed(step as u32, &adapter).await,
            Finished { adapter } => self.finished(&adapter).await,
        }
    }

    async fn stepped(&mut self, point: LossPoint) -> Result<()> {
        self.step = point.step;
        self.worker.store.add_loss(&self.claimed.claim, &point).await?;
        self.reporter.send(Event::Loss { point });
        Ok(self.reporter.progress("training", point.step, self.steps).await?)
    }

    async fn checkpointed(&mut self, step: u32, adapter: &Path) -> Result<()> {
        self.step = step;
        // A run that is stopped before its first step has nothing to show.
        if step > 0 {
            self.publish(adapter, true).await?;
        }
        self.worker.store.save_checkpoint(&self.claimed.claim, step).await?;
        Ok(self.reporter.progress("training", step, self.steps).await?)
    }

    async fn finished(&mut self, adapter: &Path) -> Result<()> {
        self.publish(adapter, false).await?;
        Ok(self.reporter.progress("finished", self.steps, self.steps).await?)
    }

    /// The adapter so far becomes usable, or the finished one takes its place.
    async fn publish(&self, adapter: &Path, training: bool) -> Result<()> {
        let file = tokio::fs::read(adapter).await.with_context(|| format!("{} cannot be read", adapter.display()))?;
        let (run, store) = (&self.claimed.claim.run, &self.worker.store);
        let base_model = self.worker.device.facts().await?.model.clone();
        let recipe = self.description(adapter, &base_model)?;
        let info = AdapterInfo {
            id: self.job.adapter.clone(),
            name: self.job.request.name.clone(),
            trigger: self.job.trigger.clone(),
            rank: self.job.recipe.rank as u32,
            alpha: self.job.recipe.alpha,
            steps: self.step,
            loss: store.recent_loss(run).await?,
            bytes: file.len() as u64,
            training,
            run: Some(run.clone()),
            dataset: Some(self.job.request.dataset.clone()),
            sample_urls: Vec::new(),
            base_model,
            created_at: now(),
        };
        Ok(store.save_trained_adapter(&self.claimed.claim, &self.claimed.owner, &info, &recipe, file).await?)
    }

    /// adapter.json: what the trainer wrote beside the finished file, else what is known half-way.
    fn description(&self, adapter: &Path, base_model: &str) -> Result<serde_json::Value> {
        let written = fs::read(adapter.with_file_name("adapter.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut description = match written {
            Some(description) => description,
            None => serde_json::json!({"steps": self.step, "trigger": self.job.trigger, "recipe": self.job.recipe}),
        };
        // The trainer knows folders, not what people call things.
        description["name"] = self.job.request.name.clone().into();
        description["base_model"] = base_model.into();
        description["dataset_name"] = self.job.dataset_name.clone().into();
        Ok(description)
    }
}

struct Begin {
    recipe: Recipe,
    dataset: Dataset,
    folder: PathBuf,
}

impl Begin {
    /// Goes on where the folder holds a run, and starts anew where an earlier attempt did not come that far.
    fn trainer(self, resident: &Resident) -> Result<Trainer> {
        const BEGUN: &str = "recipe.toml";
        let Self { recipe, dataset, folder } = self;
        if folder.join(BEGUN).is_file() {
            return Ok(Trainer::resume(&resident.pipeline, dataset, &folder)?);
        }
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        Ok(Trainer::start(&resident.pipeline, recipe, dataset, &folder)?)
    }
}

struct TrainTask {
    begin: Option<Begin>,
    trainer: Option<Trainer>,
    reports: mpsc::UnboundedSender<train::Event>,
    stop: Arc<StopSignal>,
}

impl Task for TrainTask {
    fn advance(&mut self, resident: &mut Resident) -> Result<ControlFlow<Ended>> {
        if let Some(stop) = self.stop.get() {
            return self.put_down(stop);
        }
        if let Some(begin) = self.begin.take() {
            self.trainer = Some(begin.trainer(resident)?);
            return Ok(ControlFlow::Continue(()));
        }
        let Some(trainer) = &mut self.trainer else { return Ok(ControlFlow::Break(Ended::Finished)) };
        let event = trainer.advance(&resident.pipeline)?;
        let finished = matches!(event, train::Event::Finished { .. });
        let heard = self.reports.send(event).is_ok();
        Ok(match (heard, finished) {
            (true, false) => ControlFlow::Continue(()),
            (true, true) => ControlFlow::Break(Ended::Finished),
            // What could not be written down is said by the listener.
            (false, _) => ControlFlow::Break(Ended::Stopped),
        })
    }
}

impl TrainTask {
    /// Nothing that was learnt is lost: a checkpoint first.
    fn put_down(&mut self, stop: Stop) -> Result<ControlFlow<Ended>> {
        if let Some(trainer) = self.trainer.as_mut().filter(|trainer| trainer.step() > 0) {
            while let Some(step) = trainer.settle()? {
                let _ = self.reports.send(step);
            }
            let _ = self.reports.send(trainer.checkpoint()?);
        }
        Ok(ControlFlow::Break(match stop {
            Stop::Asked => Ended::Stopped,
            Stop::Leaving => Ended::Interrupted,
        }))
    }
}
