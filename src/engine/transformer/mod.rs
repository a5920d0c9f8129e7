//! The FLUX.1 transformer (`FluxTransformer2DModel`): velocity from packed latents, text, time and guidance.

use crate::{AdapterSet, Result, latents::PackedLatents, linear::LinearId, text_encoder::Conditioning, Size};
use candle_core::{Device, Tensor};
use std::path::Path;

/// transformer/config.json
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Config {
    pub in_channels: usize,
    pub num_layers: usize,
    pub num_single_layers: usize,
    pub attention_head_dim: usize,
    pub num_attention_heads: usize,
    pub joint_attention_dim: usize,
    pub pooled_projection_dim: usize,
    pub guidance_embeds: bool,
    pub axes_dims_rope: Vec<usize>,
}

/// A linear layer that an adapter may sit on.
#[derive(Clone, Debug)]
pub struct LinearInfo {
    pub id: LinearId,
    /// diffusers module path, such as `single_transformer_blocks.4.proj_out`
    pub path: String,
    pub in_features: usize,
    pub out_features: usize,
}

/// One call's inputs beside the latents.
pub struct Step<'a> {
    pub size: Size,
    pub conditioning: &'a Conditioning,
    /// [B] in 0..=1
    pub sigma: &'a [f64],
    /// [B], the plain number; ignored by models without guidance embedding.
    pub guidance: &'a [f64],
}

/// What backward keeps: everything, or block inputs only (each block is run again).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Checkpointing {
    #[default]
    None,
    Full,
}

pub struct Transformer {
    pub config: Config,
}

impl Transformer {
    pub fn load(model: &Path, device: &Device) -> Result<Self> {
        todo!()
    }

    /// All adaptable layers; `linears()[i].id == i`.
    pub fn linears(&self) -> &[LinearInfo] {
        todo!()
    }

    /// The velocity (noise minus data), [B, tokens, 64].
    pub fn forward(&self, latents: &PackedLatents, step: &Step, adapters: &AdapterSet) -> Result<Tensor> {
        todo!()
    }

    /// Loss and gradients of the trainable tensors `variables` (the `Var`s inside `adapters`, in the order given) for
    /// a loss computed from the prediction by `loss` (a differentiable scalar). With `Checkpointing::Full` each block is
    /// re-run in backward. Returns (loss, one gradient per variable: zeros where nothing flowed).
    pub fn gradients(
        &self,
        latents: &PackedLatents,
        step: &Step,
        adapters: &AdapterSet,
        variables: &[candle_core::Var],
        checkpointing: Checkpointing,
        loss: &dyn Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<(f64, Vec<Tensor>)> {
        todo!()
    }
}
