//! What a picture is made from.

use crate::{Adapter, Error, Result, Size, memory::Workload};
use std::sync::Arc;

/// Everything that decides the pixels of a batch of pictures.
#[derive(Clone)]
pub struct GenerateParams {
    pub prompt: String,
    pub size: Size,
    /// Denoising steps, 1 to [`Self::MAX_STEPS`].
    pub steps: usize,
    /// Distilled guidance; FLUX.1-dev's default is 3.5.
    pub guidance: f64,
    /// Picture `i` of the batch is drawn with `seed + i`, so that it can be made again alone.
    pub seed: u64,
    pub count: usize,
    /// T5 tokens, 1 to 512.
    pub max_sequence_length: usize,
    /// Adapters with their scale; none is the base model.
    pub adapters: Vec<(Arc<Adapter>, f64)>,
}

impl GenerateParams {
    pub const MAX_STEPS: usize = 200;
    pub const MAX_COUNT: usize = 16;
    pub const MAX_SEQUENCE_LENGTH: usize = 512;
    pub const MAX_PROMPT_CHARS: usize = 4000;

    pub fn new(prompt: impl Into<String>, size: Size) -> Self {
        Self { prompt: prompt.into(), size, steps: 20, guidance: 3.5, seed: 0, count: 1, max_sequence_length: 128, adapters: Vec::new() }
    }

    /// What decides their memory.
    pub fn workload(&self) -> Workload {
        Workload::generate(self.size, self.max_sequence_length, self.count)
    }

    /// Refuses values outside the documented limits, each with a sentence that names the limit.
    pub fn check(&self) -> Result<()> {
        let characters = self.prompt.chars().count();
        if characters > Self::MAX_PROMPT_CHARS {
            return Err(Error::invalid(format!("the prompt has {characters} characters; at most {} are allowed", Self::MAX_PROMPT_CHARS)));
        }
        within("steps", self.steps, Self::MAX_STEPS)?;
        within("count", self.count, Self::MAX_COUNT)?;
        within("max_sequence_length", self.max_sequence_length, Self::MAX_SEQUENCE_LENGTH)?;
        if !(self.guidance.is_finite() && (0.0..=100.0).contains(&self.guidance)) {
            return Err(Error::invalid(format!("guidance {} must be a number from 0 to 100", self.guidance)));
        }
        for (adapter, scale) in &self.adapters {
            if !(scale.is_finite() && scale.abs() <= 10.0) {
                return Err(Error::adapter(&adapter.name, format!("scale {scale} must be a number from -10 to 10")));
            }
        }
        Ok(())
    }
}

fn within(name: &str, given: usize, most: usize) -> Result<()> {
    if (1..=most).contains(&given) {
        return Ok(());
    }
    Err(Error::invalid(format!("{name} {given} must be from 1 to {most}")))
}
