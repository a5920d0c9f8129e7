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
pub(crate) use layers::Layers;
pub use layers::LinearInfo;
pub use modulation::Modulations;

use crate::{
    AdapterSet, Error, Precision, Result, Size,
    adapter::{self, SidePaths},
    checkpoint::{self, Checkpoint},
    cores::on_the_cores,
    latents::PackedLatents,
    linear::{Linear, LinearId},
    ops::Activation,
    text_encoder::Conditioning,
};
use block::{Block, Context, Keep};
use candle_core::{DType, Device, Tensor};
use double::DoubleBlock;
use embed::{Embedded, Embedders, Moment};
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
    /// What [`Transformer::modulations`] made of sigma, guidance and pooled text ahead; else they are made now.
    pub modulations: Option<&'a Modulations>,
}

pub struct Transformer {
    pub config: Config,
    device: Device,
    /// Of activations.
    dtype: DType,
    linears: Vec<LinearInfo>,
    products: Vec<LinearId>,
    embedders: Embedders,
    transformer_blocks: Vec<DoubleBlock>,
    single_transformer_blocks: Vec<SingleBlock>,
    output: Output,
    positions: PositionsCache,
    files: Vec<PathBuf>,
    fingerprint: OnceLock<String>,
}

impl Transformer {
    pub fn load(model: &Path, device: &Device, precision: Precision) -> Result<Self> {
        Self::from_checkpoint(&Checkpoint::open(model, "transformer", device)?, precision)
    }

    /// Linear layers of the blocks in `precision`; those of modulation, the embedders and the last one are not quantised.
    pub fn from_checkpoint(checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        let config: Config = checkpoint.config()?;
        config.check().map_err(|problem| checkpoint.config_error(problem))?;
        let keys = checkpoint.keys().with(precision);
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
            device: checkpoint.device().clone(),
            dtype: keys.dtype(),
            linears: layers.infos,
            products: layers.products,
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

    /// For adapters.
    pub(crate) fn host(&self) -> adapter::Host<'_> {
        adapter::Host { linears: &self.linears, device: &self.device, dtype: self.dtype, prefix: "" }
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The type of activations.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The velocity (noise minus data), [B, tokens, 64] f32.
    pub fn forward(&self, latents: &PackedLatents, step: &Step, adapters: &AdapterSet) -> Result<Tensor> {
        on_the_cores(|| self.forward_here(latents, step, adapters))
    }

    /// The modulations of many calls at once: row i is for sigma[i], guidance[i] and row i of `pooled`, [n, P]. They are worth making ahead
    /// for every step of a sampling, and for some steps of a training of which no layer of modulation or embedding is a part: on a GPU their
    /// weights are a quarter of the model, and with NF4 they come from the host each time.
    pub fn modulations(&self, sigma: &[f64], guidance: &[f64], pooled: &Tensor, adapters: &AdapterSet) -> Result<Modulations> {
        let paths = SidePaths::new(adapters, &self.products, self.dtype)?;
        on_the_cores(|| self.modulations_of(&self.embedders.vector(Moment { sigma, guidance, pooled }, &paths)?, &paths))
    }

    fn forward_here(&self, latents: &PackedLatents, step: &Step, adapters: &AdapterSet) -> Result<Tensor> {
        let (inputs, paths) = (self.inputs(latents, step)?, &SidePaths::new(adapters, &self.products, self.dtype)?);
        let computed = match step.modulations {
            Some(_) => None,
            None => Some(self.modulations_of(&self.embedders.vector(inputs.moment(step), paths)?, paths)?),
        };
        let modulations = step.modulations.or(computed.as_ref()).expect("given or computed");
        let context = Context { positions: &inputs.positions, modulations, paths, keep: Keep::Nothing };
        let Embedded { picture, text } = self.embedders.forward(&inputs.latents, &inputs.text, paths)?;
        let both = block::forward(&self.transformer_blocks, [text, picture], &context)?;
        let joint = block::forward(&self.single_transformer_blocks, join(&both)?, &context)?;
        self.output.leave(&self.output.inside(&joint, &context)?, paths)
    }

    /// vector: [n, C]
    fn modulations_of(&self, vector: &Tensor, paths: &SidePaths) -> Result<Modulations> {
        let x = Activation::from(vector);
        let layers = self.norms().into_iter().map(|norm| Ok((norm.slots[0].id, norm.forward(&x, paths)?))).collect::<Result<_>>()?;
        Ok(Modulations::new(layers, vector.dim(0)?))
    }

    /// All layers of modulation.
    fn norms(&self) -> Vec<&Linear> {
        let doubles = self.transformer_blocks.iter().flat_map(|block| block.norms());
        let singles = self.single_transformer_blocks.iter().flat_map(|block| block.norms());
        doubles.chain(singles).chain([&self.output.norm_out]).collect()
    }

    /// What a call reads, checked, a row for each picture and in the type of activations.
    fn inputs(&self, latents: &PackedLatents, step: &Step) -> Result<Inputs> {
        let conditioning = step.conditioning.repeat(check_inputs(&self.config, latents, step)?)?;
        Ok(Inputs {
            latents: latents.0.to_dtype(self.dtype)?,
            text: conditioning.tokens.to_dtype(self.dtype)?,
            pooled: conditioning.pooled,
            positions: self.positions(step)?,
        })
    }

    fn positions(&self, step: &Step) -> Result<Positions> {
        self.positions.get(step.conditioning.tokens.dim(1)?, step.size, &self.config.axes_dims_rope, &self.device)
    }
}

/// [B, text, C], [B, picture, C] → [B, text + picture, C]
fn join(both: &[Tensor; 2]) -> Result<Tensor> {
    Ok(Tensor::cat(both, 1)?)
}

struct Inputs {
    /// [B, tokens, 64]
    latents: Tensor,
    /// [B, text, joint]
    text: Tensor,
    /// [B, P]
    pooled: Tensor,
    positions: Positions,
}

impl Inputs {
    fn moment<'a>(&'a self, step: &Step<'a>) -> Moment<'a> {
        Moment { sigma: step.sigma, guidance: step.guidance, pooled: &self.pooled }
    }
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
    if step.modulations.is_some_and(|modulations| modulations.rows() != batch) {
        return refuse(format!("modulations of another number of rows than {batch} pictures: narrow them to this call's"));
    }
    Ok(batch)
}
