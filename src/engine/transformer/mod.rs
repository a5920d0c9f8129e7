//! The FLUX.1 transformer (`FluxTransformer2DModel`): velocity from packed latents, text, time and guidance.
//!
//! diffusers `models/transformers/transformer_flux.py`; module paths are the checkpoint's.

mod attention;
mod block;
mod config;
mod double;
mod embed;
mod feed_forward;
mod gradients;
mod layers;
mod modulation;
mod output;
mod positions;
mod single;

pub use config::Config;
pub use gradients::{Checkpointing, Gradients, Loss};
pub use layers::LinearInfo;

use crate::{
    AdapterSet, Error, Result, Size,
    adapter::SidePaths,
    checkpoint::{self, Checkpoint},
    cores::on_the_cores,
    latents::PackedLatents,
    text_encoder::Conditioning,
};
use block::{Block, Context};
use candle_core::{Device, Tensor};
use double::DoubleBlock;
use embed::{Embedded, Embedders};
use layers::Layers;
use output::Output;
use positions::{Positions, PositionsCache};
use single::SingleBlock;
use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// One call's inputs beside the latents. A conditioning of one row serves every row of the latents.
pub struct Step<'a> {
    pub size: Size,
    pub conditioning: &'a Conditioning,
    /// [B] in 0..=1
    pub sigma: &'a [f64],
    /// [B], the plain number; ignored by models without guidance embedding.
    pub guidance: &'a [f64],
}

pub struct Transformer {
    pub config: Config,
    device: Device,
    linears: Vec<LinearInfo>,
    embedders: Embedders,
    transformer_blocks: Vec<DoubleBlock>,
    single_transformer_blocks: Vec<SingleBlock>,
    output: Output,
    positions: PositionsCache,
    files: Vec<PathBuf>,
    fingerprint: OnceLock<String>,
}

impl Transformer {
    pub fn load(model: &Path, device: &Device) -> Result<Self> {
        let checkpoint = Checkpoint::open(model, "transformer", device)?;
        let config: Config = checkpoint.config()?;
        config.check().map_err(|problem| checkpoint.config_error(problem))?;
        let keys = checkpoint.keys();
        // The order of loading is the order of the flow; `gradients` relies on ids growing along it.
        let mut layers = Layers::default();
        let embedders = Embedders::load(&keys, &config, &mut layers)?;
        let transformer_blocks = (0..config.num_layers)
            .map(|i| DoubleBlock::load(&keys.at("transformer_blocks").at(i), &config, &mut layers))
            .collect::<Result<_>>()?;
        let single_transformer_blocks = (0..config.num_single_layers)
            .map(|i| SingleBlock::load(&keys.at("single_transformer_blocks").at(i), &config, &mut layers))
            .collect::<Result<_>>()?;
        let output = Output::load(&keys, &config, &mut layers)?;
        checkpoint.report_unused();
        Ok(Self {
            config,
            device: device.clone(),
            linears: layers.infos,
            embedders,
            transformer_blocks,
            single_transformer_blocks,
            output,
            positions: PositionsCache::default(),
            files: checkpoint.files(),
            fingerprint: OnceLock::new(),
        })
    }

    /// SHA-256 of the weights, which says whether a run goes on with the model it began with. Computed once, lazily.
    pub fn fingerprint(&self) -> Result<String> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(known.clone());
        }
        let fresh = checkpoint::fingerprint(&self.files)?;
        Ok(self.fingerprint.get_or_init(|| fresh).clone())
    }

    /// All adaptable layers; `linears()[i].id == i`.
    pub fn linears(&self) -> &[LinearInfo] {
        &self.linears
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The velocity (noise minus data), [B, tokens, 64].
    pub fn forward(&self, latents: &PackedLatents, step: &Step, adapters: &AdapterSet) -> Result<Tensor> {
        on_the_cores(|| self.forward_here(latents, step, adapters))
    }

    fn forward_here(&self, latents: &PackedLatents, step: &Step, adapters: &AdapterSet) -> Result<Tensor> {
        let (positions, paths) = (self.positions(step)?, &SidePaths::new(adapters));
        let context = Context { positions: &positions, paths, keeps: false };
        let Embedded { picture, text, vector } = self.embed(latents, step, paths)?;
        let both = block::forward(&self.transformer_blocks, [text, picture], &context, |b| modulations(b, &vector, paths))?;
        let joint = block::forward(&self.single_transformer_blocks, join(&both)?, &context, |b| modulations(b, &vector, paths))?;
        let output = self.output.inside(&joint, positions.text_tokens, &self.output.norm_out.forward(&vector, paths)?)?;
        self.output.leave(&output, paths)
    }

    fn embed(&self, latents: &PackedLatents, step: &Step, paths: &SidePaths) -> Result<Embedded> {
        let batch = check_inputs(&self.config, latents, step)?;
        self.embedders.forward(&latents.0, &step.conditioning.repeat(batch)?, step, paths)
    }

    /// Gradients of the pairs on the embedders. g: of what [`Self::embed`] returned
    fn embed_backward(&self, latents: &PackedLatents, step: &Step, g: &Embedded, paths: &SidePaths, gradients: &Gradients) -> Result<()> {
        let conditioning = step.conditioning.repeat(latents.0.dim(0)?)?;
        self.embedders.backward(&latents.0, &conditioning, step, g, paths, gradients)
    }

    fn positions(&self, step: &Step) -> Result<Positions> {
        self.positions.get(step.conditioning.tokens.dim(1)?, step.size, &self.config.axes_dims_rope, &self.device)
    }
}

/// [B, text, C], [B, picture, C] → [B, text + picture, C]
fn join(both: &[Tensor; 2]) -> Result<Tensor> {
    Ok(Tensor::cat(both, 1)?)
}

/// The shifts, scales and gates of a block.
fn modulations<B: Block>(block: &B, vector: &Tensor, paths: &SidePaths) -> Result<Vec<Tensor>> {
    block.norms().into_iter().map(|norm| norm.forward(vector, paths)).collect()
}

/// Refuses inputs whose shapes disagree; returns the batch size.
fn check_inputs(config: &Config, latents: &PackedLatents, step: &Step) -> Result<usize> {
    let refuse = |what: String| Err(Error::invalid(what));
    let (batch, tokens, channels) = latents.0.dims3()?;
    if (tokens, channels) != (step.size.tokens(), config.in_channels) {
        let expected = (step.size.tokens(), config.in_channels);
        return refuse(format!(
            "latents [{batch}, {tokens}, {channels}]: a {} picture has [{batch}, {}, {}]",
            step.size, expected.0, expected.1
        ));
    }
    let (rows, _, width) = step.conditioning.tokens.dims3()?;
    let (pooled_rows, pooled_width) = step.conditioning.pooled.dims2()?;
    if (width, pooled_width) != (config.joint_attention_dim, config.pooled_projection_dim) {
        let expected = (config.joint_attention_dim, config.pooled_projection_dim);
        return refuse(format!("text states of width {width} and {pooled_width}: this model takes {} and {}", expected.0, expected.1));
    }
    if rows != pooled_rows || (rows != batch && rows != 1) {
        return refuse(format!("{rows} text states and {pooled_rows} pooled vectors for {batch} pictures: give one each, or one for all"));
    }
    if step.sigma.len() != batch || (config.guidance_embeds && step.guidance.len() != batch) {
        return refuse(format!("{} sigmas and {} guidances for {batch} pictures: give one each", step.sigma.len(), step.guidance.len()));
    }
    Ok(batch)
}
