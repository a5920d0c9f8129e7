//! Fine-tunes an adapter: prepare, step, sample, checkpoint, finish. The whole of training on one page.

use crate::{Dataset, Recipe, Result};
use engine::Pipeline;
use image::RgbImage;
use std::path::{Path, PathBuf};

/// A run of training: owns its state; lent the pipeline for one small piece of work at a time.
pub struct Trainer {
    // recipe, dataset, cache, state, optimizer, folder, event writer, phase
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
        todo!()
    }

    /// Goes on from the newest whole checkpoint in `folder` (or from the beginning when there is none), bit-identical to a run that was never interrupted.
    /// Refuses when recipe, dataset or model differ from those of the run (`recipe.steps` may grow).
    pub fn resume(pipeline: &Pipeline, dataset: Dataset, folder: &Path) -> Result<Self> {
        todo!()
    }

    pub fn recipe(&self) -> &Recipe {
        todo!()
    }

    /// Optimiser steps done.
    pub fn step(&self) -> usize {
        todo!()
    }

    /// One unit of work: one picture encoded, one micro-batch, one denoising step of a sample, one checkpoint.
    pub fn advance(&mut self, pipeline: &Pipeline) -> Result<Event> {
        todo!()
    }

    /// Writes a checkpoint now, out of turn: before a stop.
    pub fn checkpoint(&mut self) -> Result<Event> {
        todo!()
    }

    pub fn is_finished(&self) -> bool {
        todo!()
    }
}
