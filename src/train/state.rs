//! Checkpoints: everything a run needs to go on, in `checkpoints/step-000050/`, whole or absent.

use crate::tensor_file::TensorFile;
use crate::{Error, Result, atomic};
use engine::Adapter;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const STATE: &str = "state.json";
const TENSORS: &str = "training.safetensors";
/// The name that diffusers looks for.
pub const ADAPTER: &str = "pytorch_lora_weights.safetensors";

/// How far a run is, and of which run. Random numbers need no state: each is drawn from (seed, step, row), see [`crate::random`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Optimiser steps done; a checkpoint never lies inside a step.
    pub step: usize,
    pub seed: u64,
    /// Loss of each step so far.
    pub losses: Vec<f64>,
    pub run: Identity,
}

/// What a checkpoint belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// SHA-256 of the recipe without its step count and its sample settings, which may change on the way.
    pub recipe: String,
    /// SHA-256 of the pictures and captions.
    pub dataset: String,
    pub model: String,
}

impl Identity {
    /// Says what differs, if anything does.
    pub fn check(&self, other: &Self) -> Result<()> {
        let differs =
            [("recipe", &self.recipe, &other.recipe), ("dataset", &self.dataset, &other.dataset), ("model", &self.model, &other.model)];
        match differs.iter().find(|(_, mine, theirs)| mine != theirs) {
            None => Ok(()),
            Some((what, ..)) => {
                Err(Error::State(format!("the {what} is not the one this run began with; go on with the same {what}, or start a new run")))
            }
        }
    }
}

/// A checkpoint that was read back and found whole.
pub struct Checkpoint {
    pub state: State,
    pub tensors: TensorFile,
}

/// Writes a checkpoint below `run`, then deletes all but the newest `keep`. Returns its folder.
pub fn save(run: &Path, state: &State, tensors: &TensorFile, adapter: &Adapter, keep: usize) -> Result<PathBuf> {
    let checkpoints = run.join("checkpoints");
    fs::create_dir_all(&checkpoints)?;
    let folder = checkpoints.join(format!("step-{:06}", state.step));
    let unfinished = tempfile::Builder::new().prefix(".writing-").tempdir_in(&checkpoints)?;
    adapter.save(&unfinished.path().join(ADAPTER))?;
    tensors.write(&unfinished.path().join(TENSORS))?;
    let json = serde_json::to_vec_pretty(state).map_err(std::io::Error::from)?;
    atomic::write(&unfinished.path().join(STATE), &json)?;
    // An older one of the same step is damaged or about to be: `newest` found nothing better than what led here.
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::rename(unfinished.keep(), &folder)?;
    atomic::sync_folder(&checkpoints)?;
    prune(&checkpoints, keep)?;
    Ok(folder)
}

/// The newest checkpoint of `run` that is whole; a damaged one is passed over for the one before.
pub fn newest(run: &Path) -> Result<Option<Checkpoint>> {
    for folder in by_age(&run.join("checkpoints"))?.into_iter().rev() {
        match read(&folder) {
            Ok(checkpoint) => return Ok(Some(checkpoint)),
            Err(error) => tracing::warn!("{}: {error}; trying the checkpoint before", folder.display()),
        }
    }
    Ok(None)
}

fn read(folder: &Path) -> Result<Checkpoint> {
    let json = fs::read(folder.join(STATE))?;
    let state = serde_json::from_slice(&json).map_err(|error| Error::State(format!("{STATE} is damaged: {error}")))?;
    Ok(Checkpoint { state, tensors: TensorFile::read(&folder.join(TENSORS))? })
}

fn prune(checkpoints: &Path, keep: usize) -> Result<()> {
    let folders = by_age(checkpoints)?;
    for old in &folders[..folders.len().saturating_sub(keep)] {
        fs::remove_dir_all(old)?;
    }
    Ok(())
}

/// Finished checkpoint folders, oldest first. What a kill left half-written is cleared away.
fn by_age(checkpoints: &Path) -> Result<Vec<PathBuf>> {
    if !checkpoints.is_dir() {
        return Ok(Vec::new());
    }
    let mut folders = Vec::new();
    for entry in fs::read_dir(checkpoints)? {
        let entry = entry?;
        match entry.file_name().to_string_lossy().as_ref() {
            name if name.starts_with("step-") => folders.push(entry.path()),
            name if name.starts_with(".writing-") => fs::remove_dir_all(entry.path())?,
            _ => {}
        }
    }
    folders.sort();
    Ok(folders)
}

/// Refuses a folder that cannot be written, before an hour of training finds out.
pub fn check_writable(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let probe = atomic::temporary(folder)?;
    Ok(File::sync_all(probe.as_file())?)
}
