//! What enters the blocks: embedded picture and text tokens, and one vector of time, guidance and pooled text.
//!
//! diffusers `models/embeddings.py`: `CombinedTimestepGuidanceTextProjEmbeddings`.

use super::{Config, Layers, Step};
use crate::{
    AdapterSet, Result,
    checkpoint::Keys,
    linear::{Linear, LinearId},
    text_encoder::Conditioning,
};
use candle_core::{Device, Tensor};
use std::ops::Range;

/// Width of the sinusoids of time and guidance.
const SINUSOIDS: usize = 256;

pub struct Embedders {
    timestep: Mlp,
    guidance: Option<Mlp>,
    pooled: Mlp,
    context_embedder: Linear,
    x_embedder: Linear,
    pub ids: Range<LinearId>,
}

/// What flows into the first block.
pub struct Embedded {
    /// [B, tokens, C]
    pub picture: Tensor,
    /// [B, text, C]
    pub text: Tensor,
    /// [B, C], after the SiLU with which every modulation begins.
    pub vector: Tensor,
}

impl Embedders {
    pub fn load(keys: &Keys, config: &Config, layers: &mut Layers) -> Result<Self> {
        let (dim, start) = (config.inner_dim(), layers.next_id());
        let combined = keys.at("time_text_embed");
        let mut mlp = |name: &str, width: usize| Mlp::load(&combined.at(name), width, dim, layers);
        let timestep = mlp("timestep_embedder", SINUSOIDS)?;
        let guidance = config.guidance_embeds.then(|| mlp("guidance_embedder", SINUSOIDS)).transpose()?;
        let pooled = mlp("text_embedder", config.pooled_projection_dim)?;
        let context_embedder = layers.linear(&keys.at("context_embedder"), config.joint_attention_dim, dim)?;
        let x_embedder = layers.linear(&keys.at("x_embedder"), config.in_channels, dim)?;
        Ok(Self { timestep, guidance, pooled, context_embedder, x_embedder, ids: start..layers.next_id() })
    }

    /// latents: [B, tokens, 64]
    pub fn forward(&self, latents: &Tensor, conditioning: &Conditioning, step: &Step, adapters: &AdapterSet) -> Result<Embedded> {
        let device = latents.device();
        let mut vector = self.timestep.forward(&sinusoids(step.sigma, device)?, adapters)?;
        if let Some(guidance) = &self.guidance {
            vector = (vector + guidance.forward(&sinusoids(step.guidance, device)?, adapters)?)?;
        }
        vector = (vector + self.pooled.forward(&conditioning.pooled, adapters)?)?;
        Ok(Embedded {
            picture: self.x_embedder.forward(latents, adapters)?,
            text: self.context_embedder.forward(&conditioning.tokens, adapters)?,
            vector: vector.silu()?,
        })
    }
}

/// linear, SiLU, linear
struct Mlp {
    linear_1: Linear,
    linear_2: Linear,
}

impl Mlp {
    fn load(keys: &Keys, width: usize, dim: usize, layers: &mut Layers) -> Result<Self> {
        Ok(Self { linear_1: layers.linear(&keys.at("linear_1"), width, dim)?, linear_2: layers.linear(&keys.at("linear_2"), dim, dim)? })
    }

    fn forward(&self, x: &Tensor, adapters: &AdapterSet) -> Result<Tensor> {
        self.linear_2.forward(&self.linear_1.forward(x, adapters)?.silu()?, adapters)
    }
}

/// `get_timestep_embedding` of 1000·value, cosines first: [B, 256], computed in f64.
fn sinusoids(values: &[f64], device: &Device) -> Result<Tensor> {
    const HALF: usize = SINUSOIDS / 2;
    let angles = |value: f64| (0..HALF).map(move |i| 1000.0 * value * (-(10_000f64.ln()) * i as f64 / HALF as f64).exp());
    let row = |&value: &f64| angles(value).map(|a| a.cos() as f32).chain(angles(value).map(|a| a.sin() as f32)).collect::<Vec<_>>();
    Ok(Tensor::from_vec(values.iter().flat_map(row).collect(), (values.len(), SINUSOIDS), device)?)
}
