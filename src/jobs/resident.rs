//! What lives on the device's thread: the loaded model, and the adapters that were used last.

use crate::store::adapters::AdapterFile;
use anyhow::{Context, Result};
use engine::{
    Adapter, Device, Pipeline, Size, device,
    memory::{self, Placement, Sizes, Workload},
    residence::Part,
};
use std::sync::Arc;
use train::{Recipe, estimate};

/// Adapters kept in memory. Those of flux-mini take 1 MB each, those of FLUX.1 up to 700.
const MOST_ADAPTERS: usize = 8;
/// And their bytes, beyond which only the last is kept.
const MOST_BYTES: usize = 1 << 30;

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
        while self.adapters.len() > MOST_ADAPTERS || (self.adapters.len() > 1 && self.adapter_bytes() > MOST_BYTES) {
            self.adapters.remove(0);
        }
        Ok(found)
    }

    fn adapter_bytes(&self) -> usize {
        self.adapters.iter().map(|(_, adapter)| adapter.bytes()).sum()
    }

    /// After a task that ran out of memory: lets go of all that can be loaded again, so that the next one finds room.
    pub fn recover(&mut self) {
        self.adapters.clear();
        self.pipeline.evict(Part::TextEncoder);
        self.pipeline.evict(Part::Vae);
        if let Err(error) = device::trim(&self.pipeline.device) {
            tracing::warn!(%error, "the GPU's memory could not be given back");
        }
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
    on: Device,
    sizes: Sizes,
    placement: Placement,
    /// What the model could take with all its work when it had just been loaded.
    budget: u64,
}

impl Facts {
    pub fn of(pipeline: &Pipeline) -> engine::Result<Self> {
        // A GPU's rate is measured now, while nobody else asks it for anything.
        if !pipeline.device.is_cpu() {
            estimate::operations_per_second(&pipeline.device);
        }
        Ok(Self {
            model: pipeline.name.clone(),
            device: in_words(pipeline),
            config: pipeline.transformer.config.clone(),
            on: pipeline.device.clone(),
            sizes: pipeline.sizes.clone(),
            placement: pipeline.placement,
            budget: pipeline.budget()?,
        })
    }

    pub fn predict(&self, recipe: &Recipe, items: usize) -> train::Result<estimate::Prediction> {
        estimate::predict(&self.sizes, &estimate::Place { device: &self.on, placement: self.placement, budget: self.budget }, recipe, items)
    }

    /// Refuses a training that cannot fit the GPU.
    pub fn check_training(&self, recipe: &Recipe) -> train::Result<()> {
        let workload = estimate::workload(recipe, &memory::layers(&self.config))?;
        let checkpointing = recipe.gradient_checkpointing.resolve(&self.sizes, self.placement, &workload, self.budget);
        Ok(self.check(&workload.with(checkpointing))?)
    }

    /// Refuses a picture that cannot fit the GPU, in a sentence.
    pub fn check_picture(&self, width: u32, height: u32) -> Result<(), String> {
        let fits = Size::new(width as usize, height as usize).and_then(|size| self.check(&Workload::generate(size, T5_TOKENS, 1)));
        fits.map_err(|error| error.to_string())
    }

    fn check(&self, workload: &Workload) -> engine::Result<()> {
        if self.on.is_cpu() { Ok(()) } else { memory::check(&self.sizes, self.placement, workload, self.budget) }
    }

    /// MiB that the model and its work may take together at this moment.
    pub fn budget_mib(&self) -> f64 {
        let bytes = match device::memory(&self.on) {
            // The model is held already.
            Ok(now) if self.on.is_cpu() => now.free + self.held(),
            _ => self.budget,
        };
        bytes as f64 / f64::from(1 << 20)
    }

    fn held(&self) -> u64 {
        let peak = memory::Peak::of(&self.sizes, self.placement, &Workload::generate(self.sizes.usual_size(), 1, 1));
        peak.transformer + peak.text_encoder + peak.vae
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

    fn is_small(&self) -> bool {
        self.sizes.is_small()
    }
}

/// Of prompts on the pages.
pub const T5_TOKENS: usize = 128;

/// `NVIDIA L4, nf4`; on the CPU there is one way to hold a model, which goes without saying.
fn in_words(pipeline: &Pipeline) -> String {
    let device = device::in_words(&pipeline.device);
    if pipeline.device.is_cpu() { device } else { format!("{device}, {}", pipeline.placement.precision) }
}
