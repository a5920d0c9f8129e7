//! What enters the blocks: embedded picture and text tokens, and one vector of time, guidance and pooled text.
//!
//! diffusers `models/embeddings.py`: `CombinedTimestepGuidanceTextProjEmbeddings`.

use super::{Config, Gradients, Layers};
use crate::{
    Result,
    adapter::SidePaths,
    checkpoint::Keys,
    linear::{Linear, LinearId},
    ops::Activation,
};
use candle_core::{DType, Device, Tensor};
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
}

/// What the vector is made of, a row for each picture.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    pub sigma: &'a [f64],
    pub guidance: &'a [f64],
    /// [B, P]
    pub pooled: &'a Tensor,
}

impl Embedders {
    pub fn load(keys: &Keys, config: &Config, layers: &mut Layers) -> Result<Self> {
        let (dim, start) = (config.inner_dim(), layers.next_id());
        let combined = keys.at("time_text_embed");
        let mut mlp = |name: &str, width: usize| Mlp::load(&combined.at(name), width, dim, layers);
        let timestep = mlp("timestep_embedder", SINUSOIDS)?;
        let guidance = config.guidance_embeds.then(|| mlp("guidance_embedder", SINUSOIDS)).transpose()?;
        let pooled = mlp("text_embedder", config.pooled_projection_dim)?;
        let context_embedder = layers.unquantised(&keys.at("context_embedder"), config.joint_attention_dim, dim)?;
        let x_embedder = layers.unquantised(&keys.at("x_embedder"), config.in_channels, dim)?;
        Ok(Self { timestep, guidance, pooled, context_embedder, x_embedder, ids: start..layers.next_id() })
    }

    /// latents: [B, tokens, 64]; text: [B, text, joint], both in the type of the result.
    pub fn forward(&self, latents: &Tensor, text: &Tensor, paths: &SidePaths) -> Result<Embedded> {
        let picture = self.x_embedder.forward(&latents.into(), paths)?;
        Ok(Embedded { picture, text: self.context_embedder.forward(&text.into(), paths)? })
    }

    /// Gradients of the pairs on the two layers of [`Self::forward`]. g: of its result
    pub fn backward(&self, latents: &Tensor, text: &Tensor, g: &Embedded, paths: &SidePaths, gradients: &Gradients) -> Result<()> {
        self.x_embedder.backward_pairs(&latents.into(), &g.picture, paths, gradients)?;
        self.context_embedder.backward_pairs(&text.into(), &g.text, paths, gradients)
    }

    /// Time, guidance and pooled text after the SiLU with which every modulation begins: [B, C] f32.
    pub fn vector(&self, moment: Moment, paths: &SidePaths) -> Result<Tensor> {
        Ok(self.sum(moment, paths)?.silu()?)
    }

    /// Gradients of the pairs on what makes the vector. g: of [`Self::vector`]
    pub fn vector_backward(&self, moment: Moment, g: &Tensor, paths: &SidePaths, gradients: &Gradients) -> Result<()> {
        let g = silu_gradient(&self.sum(moment, paths)?, g)?;
        for (mlp, x) in self.mlps(moment)? {
            mlp.backward(&x, &g, paths, gradients)?;
        }
        Ok(())
    }

    fn sum(&self, moment: Moment, paths: &SidePaths) -> Result<Tensor> {
        let mut terms = self.mlps(moment)?.into_iter().map(|(mlp, x)| mlp.forward(&x, paths));
        let first = terms.next().expect("time is always embedded")?;
        terms.try_fold(first, |sum, term| Ok((sum + term?)?))
    }

    /// Each with what it reads.
    fn mlps(&self, moment: Moment) -> Result<Vec<(&Mlp, Activation)>> {
        let device = moment.pooled.device();
        let mut mlps = vec![(&self.timestep, sinusoids(moment.sigma, device)?.into())];
        if let Some(guidance) = &self.guidance {
            mlps.push((guidance, sinusoids(moment.guidance, device)?.into()));
        }
        mlps.push((&self.pooled, moment.pooled.to_dtype(DType::F32)?.into()));
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
        Ok(Self {
            linear_1: layers.unquantised(&keys.at("linear_1"), width, dim)?,
            linear_2: layers.unquantised(&keys.at("linear_2"), dim, dim)?,
        })
    }

    fn forward(&self, x: &Activation, paths: &SidePaths) -> Result<Tensor> {
        self.linear_2.forward(&self.linear_1.forward(x, paths)?.silu()?.into(), paths)
    }

    fn backward(&self, x: &Activation, g: &Tensor, paths: &SidePaths, gradients: &Gradients) -> Result<()> {
        let hidden = self.linear_1.forward(x, paths)?;
        let g = self.linear_2.backward(&hidden.silu()?.into(), g, None, paths, gradients)?;
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
