//! What lives on the device's thread: the loaded model, and the adapters that were used last.

use crate::store::adapters::AdapterFile;
use anyhow::{Context, Result};
use engine::{Adapter, Pipeline};
use std::sync::Arc;

/// Adapters kept in memory. Those of flux-mini take 1 MB each, those of FLUX.1 up to 700.
const MOST_ADAPTERS: usize = 8;

pub struct Resident {
    pub pipeline: Pipeline,
    /// Most recently used last.
    adapters: Vec<(AdapterFile, Arc<Adapter>)>,
}

impl Resident {
    pub fn new(pipeline: Pipeline) -> Self {
        Self { pipeline, adapters: Vec::new() }
    }

    /// The adapter at the version that the file names: a training's changes with every checkpoint.
    pub fn adapter(&mut self, file: &AdapterFile) -> Result<Arc<Adapter>> {
        let same = |cached: &AdapterFile| cached.id == file.id && cached.version == file.version;
        let found = match self.adapters.iter().position(|(cached, _)| same(cached)) {
            Some(index) => self.adapters.remove(index).1,
            None => Arc::new(self.load(file)?),
        };
        self.adapters.retain(|(cached, _)| cached.id != file.id);
        self.adapters.push((file.clone(), found.clone()));
        if self.adapters.len() > MOST_ADAPTERS {
            self.adapters.remove(0);
        }
        Ok(found)
    }

    fn load(&self, file: &AdapterFile) -> Result<Adapter> {
        let bytes = std::fs::read(&file.path).with_context(|| format!("The file of adapter {} cannot be read", file.name))?;
        Ok(Adapter::from_bytes(&file.name, &bytes, &self.pipeline.device)?)
    }
}

/// What is known of the model once it is loaded.
#[derive(Clone, Debug)]
pub struct Facts {
    pub model: String,
    /// Such as `2 CPU cores`.
    pub device: String,
    pub config: engine::transformer::Config,
}

impl Facts {
    pub fn of(pipeline: &Pipeline) -> Self {
        Self { model: pipeline.name.clone(), device: device_in_words(&pipeline.device), config: pipeline.transformer.config.clone() }
    }

    /// Sizes that the model was made for, best first: label, width, height.
    pub fn sizes(&self) -> Vec<(String, u32, u32)> {
        let sizes: &[(&str, u32, u32)] = if self.is_small() {
            &[("Square", 256, 256), ("Portrait", 192, 288), ("Landscape", 288, 192)]
        } else {
            &[("Square", 1024, 1024), ("Portrait", 832, 1248), ("Landscape", 1248, 832), ("Small", 512, 512)]
        };
        sizes.iter().map(|(label, width, height)| (label.to_string(), *width, *height)).collect()
    }

    /// Pixels of one picture, at most: beyond, a model repeats itself and attention outgrows the memory.
    pub fn most_pixels(&self) -> u32 {
        if self.is_small() { 1024 * 1024 } else { 2048 * 2048 }
    }

    pub fn default_steps(&self) -> u32 {
        if self.is_small() { 20 } else { 28 }
    }

    /// FLUX.1 is 3072 wide and draws at 1024 pixels; models that train on a laptop are a tenth of that and draw at 256.
    fn is_small(&self) -> bool {
        self.config.inner_dim() < 1024
    }
}

fn device_in_words(device: &engine::Device) -> String {
    if !device.is_cpu() {
        return format!("{:?}", device.location());
    }
    match std::thread::available_parallelism().map_or(1, usize::from) {
        1 => "1 CPU core".into(),
        cores => format!("{cores} CPU cores"),
    }
}
