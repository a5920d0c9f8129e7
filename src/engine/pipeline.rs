//! Prompt → picture, one step at a time. The whole of generation on one page.

use crate::{GenerateParams, Result, scheduler::Scheduler, text_encoder::TextEncoder, transformer::Transformer, vae::Vae};
use candle_core::Device;
use image::RgbImage;
use std::path::Path;

/// A loaded model: weights that never change.
pub struct Pipeline {
    /// The folder's name, such as `flux-mini`.
    pub name: String,
    pub device: Device,
    pub text_encoder: TextEncoder,
    pub transformer: Transformer,
    pub vae: Vae,
    pub scheduler: Scheduler,
}

/// Pictures in the making: state only, so that one device can serve several in turn.
pub struct Generation {
    // params, conditioning, adapters, sigmas, latents, index
}

impl Pipeline {
    /// Loads a FLUX.1 folder in diffusers layout.
    pub fn load(model: &Path, device: &Device) -> Result<Self> {
        todo!()
    }

    /// Checks the parameters, encodes the prompt, draws the noise.
    pub fn start(&self, params: GenerateParams) -> Result<Generation> {
        todo!()
    }

    /// Makes the pictures in one go. `on_step` hears (steps done, steps in all, the generation) and may break to cancel.
    pub fn generate(
        &self,
        params: GenerateParams,
        on_step: &mut dyn FnMut(&Generation) -> std::ops::ControlFlow<()>,
    ) -> Result<Vec<RgbImage>> {
        todo!()
    }
}

impl Generation {
    pub fn params(&self) -> &GenerateParams {
        todo!()
    }

    /// Steps done.
    pub fn done(&self) -> usize {
        todo!()
    }

    pub fn is_finished(&self) -> bool {
        todo!()
    }

    /// One Euler step.
    pub fn step(&mut self, pipeline: &Pipeline) -> Result<()> {
        todo!()
    }

    /// A small look at the unfinished pictures (1/8 of the size), cheap enough for every step: predicts the clean latents from the last velocity.
    pub fn preview(&self, pipeline: &Pipeline) -> Result<Vec<RgbImage>> {
        todo!()
    }

    /// Decodes the finished latents.
    pub fn finish(self, pipeline: &Pipeline) -> Result<Vec<RgbImage>> {
        todo!()
    }
}
