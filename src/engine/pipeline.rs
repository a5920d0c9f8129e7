//! Prompt → picture, one step at a time. The whole of generation on one page.

use crate::{
    AdapterSet, Coverage, Error, GenerateParams, Model, Precision, Result,
    latents::PackedLatents,
    memory::{Placement, Sizes},
    mounting::Mounted,
    residence::{self, Part},
    scheduler::Scheduler,
    text_encoder::{Conditioning, TextEncoder},
    transformer::{Modulations, Step, Transformer},
    vae::Vae,
};
use candle_core::{Device, Tensor};
use image::RgbImage;
use std::ops::ControlFlow;

/// A loaded model: weights that never change. Where memory is short, text encoders and VAE come and go.
pub struct Pipeline {
    /// The folder's name, such as `flux-mini`.
    pub name: String,
    pub device: Device,
    pub placement: Placement,
    pub sizes: Sizes,
    pub text_encoder: TextEncoder,
    pub transformer: Transformer,
    pub vae: Vae,
    pub scheduler: Scheduler,
}

/// Pictures in the making: state only, so that one device can serve several in turn.
pub struct Generation {
    params: GenerateParams,
    conditioning: Conditioning,
    adapters: AdapterSet,
    coverage: Vec<Coverage>,
    /// One more than there are steps; the last is 0.
    sigmas: Vec<f64>,
    /// Of every step.
    modulations: Modulations,
    latents: PackedLatents,
    /// Of the last step.
    velocity: Option<Tensor>,
    done: usize,
}

impl Pipeline {
    /// Loads a FLUX.1 folder in diffusers layout: in f32 on the CPU, on a GPU in the most exact precision that fits.
    pub fn load(model: impl Into<Model>, device: &Device) -> Result<Self> {
        Self::load_in(model, device, None)
    }

    /// The same with the transformer's blocks in a given precision.
    pub fn load_in(model: impl Into<Model>, device: &Device, precision: Option<Precision>) -> Result<Self> {
        let model = model.into();
        model.check()?;
        let sizes = Sizes::of(&model)?;
        let placement = residence::place(&sizes, device, precision)?;
        let transformer = || Transformer::from_checkpoint(&model.part("transformer", device)?, placement.precision);
        let others = || residence::open(&model, device, placement);
        // A GPU's memory is filled one part after the other, so that what is on its way counts once.
        let (transformer, others) = if device.is_cpu() { rayon::join(transformer, others) } else { (transformer(), others()) };
        let (transformer, (text_encoder, vae)) = (transformer?, others?);
        let (name, device, scheduler) = (model.name(), device.clone(), Scheduler::load(&model)?);
        let pipeline = Self { name, device, placement, sizes, text_encoder, transformer, vae, scheduler };
        pipeline.load_what_fits()?;
        Ok(pipeline)
    }

    /// Checks the parameters, encodes the prompt, draws the noise.
    pub fn start(&self, params: GenerateParams) -> Result<Generation> {
        params.check()?;
        let workload = params.workload();
        self.check_memory(&workload)?;
        self.make_room(Part::TextEncoder, &workload)?;
        let on_clip = self.mount_on_clip(&params.adapters)?;
        let conditioning = self.text_encoder.encode_with(&[&params.prompt], params.max_sequence_length, &on_clip)?;
        let noise = PackedLatents::noise(params.seed, params.count, params.size, &self.device)?;
        self.start_from(params, conditioning, noise)
    }

    /// The same from a conditioning and noise that the caller brings; `prompt`, `seed` and `max_sequence_length` are not used, nor is what
    /// adapters have for CLIP.
    pub fn start_from(&self, params: GenerateParams, conditioning: Conditioning, latents: PackedLatents) -> Result<Generation> {
        params.check()?;
        // Mounting looks at CLIP's layers, so before CLIP may leave.
        let Mounted { transformer: adapters, coverage, .. } = self.mount(&params.adapters)?;
        self.make_room(Part::Transformer, &params.workload())?;
        let sigmas = self.scheduler.sigmas(params.steps, params.size);
        let modulations = self.modulations(&params, &conditioning, &adapters, &sigmas, latents.0.dim(0)?)?;
        Ok(Generation { params, conditioning, adapters, coverage, sigmas, modulations, latents, velocity: None, done: 0 })
    }

    /// For every step in turn, a row for each of `count` pictures.
    fn modulations(
        &self,
        params: &GenerateParams,
        conditioning: &Conditioning,
        adapters: &AdapterSet,
        sigmas: &[f64],
        count: usize,
    ) -> Result<Modulations> {
        let sigma: Vec<f64> = sigmas[..sigmas.len() - 1].iter().flat_map(|&sigma| vec![sigma; count]).collect();
        let pooled = conditioning.repeat(count)?.pooled.repeat((sigma.len() / count, 1))?;
        self.transformer.modulations(&sigma, &vec![params.guidance; sigma.len()], &pooled, adapters)
    }

    /// Makes the pictures in one go. `on_step` hears of the generation after every step and may break to cancel.
    pub fn generate(&self, params: GenerateParams, on_step: &mut dyn FnMut(&Generation) -> ControlFlow<()>) -> Result<Vec<RgbImage>> {
        let mut generation = self.start(params)?;
        while !generation.is_finished() {
            generation.step(self)?;
            if on_step(&generation).is_break() {
                return Err(Error::Cancelled);
            }
        }
        generation.finish(self)
    }
}

impl Generation {
    /// One Euler step: x ← x + (σ' - σ)·v, in f32.
    pub fn step(&mut self, pipeline: &Pipeline) -> Result<()> {
        if self.is_finished() {
            return Ok(());
        }
        let (sigma, next) = (self.sigmas[self.done], self.sigmas[self.done + 1]);
        let rows = self.latents.0.dim(0)?;
        let step = Step {
            size: self.params.size,
            conditioning: &self.conditioning,
            sigma: &vec![sigma; rows],
            guidance: &vec![self.params.guidance; rows],
            modulations: Some(&self.modulations.narrow(self.done * rows, rows)?),
        };
        let velocity = pipeline.transformer.forward(&self.latents, &step, &self.adapters)?;
        self.latents = PackedLatents((&self.latents.0 + (&velocity * (next - sigma))?)?);
        self.velocity = Some(velocity);
        self.done += 1;
        Ok(())
    }

    /// A small look at the unfinished pictures (1/8 of the size), cheap enough for every step: the clean latents x - σ·v
    /// that the last velocity points to.
    pub fn preview(&self, pipeline: &Pipeline) -> Result<Vec<RgbImage>> {
        let clean = match &self.velocity {
            Some(velocity) => (&self.latents.0 - (velocity * self.sigmas[self.done])?)?,
            None => self.latents.0.clone(),
        };
        pipeline.vae.preview(&PackedLatents(clean).unpack(self.params.size)?)
    }

    /// Decodes the latents. Numbers that ran off to infinity on the way are refused rather than shown as a black picture.
    pub fn finish(self, pipeline: &Pipeline) -> Result<Vec<RgbImage>> {
        if !self.latents.0.sum_all()?.to_scalar::<f32>()?.is_finite() {
            return Err(Error::invalid(
                "the numbers of this picture ran off to infinity; lower the strength of its adapters or its guidance",
            ));
        }
        pipeline.make_room(Part::Vae, &self.params.workload())?;
        pipeline.vae.decode(&self.latents.unpack(self.params.size)?)
    }

    pub fn params(&self) -> &GenerateParams {
        &self.params
    }

    /// Steps done.
    pub fn done(&self) -> usize {
        self.done
    }

    pub fn is_finished(&self) -> bool {
        self.done + 1 >= self.sigmas.len()
    }

    /// The state of the pictures: noise at first, clean when finished.
    pub fn latents(&self) -> &PackedLatents {
        &self.latents
    }

    /// Which modules of each adapter of the parameters found their layer.
    pub fn coverage(&self) -> &[Coverage] {
        &self.coverage
    }
}
