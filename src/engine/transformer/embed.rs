//! What enters the blocks: embedded picture and text tokens, and one vector of time, guidance and pooled text.
//!
//! diffusers `models/embeddings.py`: `CombinedTimestepGuidanceTextProjEmbeddings`.

use super::{Config, Gradients, Layers, Step};
use crate::{
    Result,
    adapter::SidePaths,
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
    pub fn forward(&self, latents: &Tensor, conditioning: &Conditioning, step: &Step, paths: &SidePaths) -> Result<Embedded> {
        Ok(Embedded {
            picture: self.x_embedder.forward(latents, paths)?,
            text: self.context_embedder.forward(&conditioning.tokens, paths)?,
            vector: self.sum(&conditioning.pooled, step, paths)?.silu()?,
        })
    }

    /// Gradients of the pairs on the embedders. g: of what [`Self::forward`] returned
    pub fn backward(
        &self,
        latents: &Tensor,
        conditioning: &Conditioning,
        step: &Step,
        g: &Embedded,
        paths: &SidePaths,
        gradients: &Gradients,
    ) -> Result<()> {
        self.x_embedder.backward_pairs(latents, &g.picture, paths, gradients)?;
        self.context_embedder.backward_pairs(&conditioning.tokens, &g.text, paths, gradients)?;
        let g = silu_gradient(&self.sum(&conditioning.pooled, step, paths)?, &g.vector)?;
        for (mlp, x) in self.mlps(&conditioning.pooled, step)? {
            mlp.backward(&x, &g, paths, gradients)?;
        }
        Ok(())
    }

    /// Time, guidance and pooled text: [B, C]
    fn sum(&self, pooled: &Tensor, step: &Step, paths: &SidePaths) -> Result<Tensor> {
        let mut terms = self.mlps(pooled, step)?.into_iter().map(|(mlp, x)| mlp.forward(&x, paths));
        let first = terms.next().expect("time is always embedded")?;
        terms.try_fold(first, |sum, term| Ok((sum + term?)?))
    }

    /// Each with what it reads.
    fn mlps(&self, pooled: &Tensor, step: &Step) -> Result<Vec<(&Mlp, Tensor)>> {
        let device = pooled.device();
        let mut mlps = vec![(&self.timestep, sinusoids(step.sigma, device)?)];
        if let Some(guidance) = &self.guidance {
            mlps.push((guidance, sinusoids(step.guidance, device)?));
        }
        mlps.push((&self.pooled, pooled.clone()));
        Ok(mlps)
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

    fn forward(&self, x: &Tensor, paths: &SidePaths) -> Result<Tensor> {
        self.linear_2.forward(&self.linear_1.forward(x, paths)?.silu()?, paths)
    }

    fn backward(&self, x: &Tensor, g: &Tensor, paths: &SidePaths, gradients: &Gradients) -> Result<()> {
        let hidden = self.linear_1.forward(x, paths)?;
        let g = self.linear_2.backward(&hidden.silu()?, g, None, paths, gradients)?;
        self.linear_1.backward_pairs(x, &silu_gradient(&hidden, &g)?, paths, gradients)
    }
}

/// g·(σ + x·σ·(1 − σ)), σ the sigmoid of x.
fn silu_gradient(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    let sigmoid = candle_nn::ops::sigmoid(x)?;
    let slope = (&sigmoid + (x * &sigmoid)? * sigmoid.affine(-1.0, 1.0)?)?;
    Ok((g * slope)?)
}

/// `get_timestep_embedding` of 1000·value, cosines first: [B, 256], computed in f64.
fn sinusoids(values: &[f64], device: &Device) -> Result<Tensor> {
    const HALF: usize = SINUSOIDS / 2;
    let angles = |value: f64| (0..HALF).map(move |i| 1000.0 * value * (-(10_000f64.ln()) * i as f64 / HALF as f64).exp());
    let row = |&value: &f64| angles(value).map(|a| a.cos() as f32).chain(angles(value).map(|a| a.sin() as f32)).collect::<Vec<_>>();
    Ok(Tensor::from_vec(values.iter().flat_map(row).collect(), (values.len(), SINUSOIDS), device)?)
}
