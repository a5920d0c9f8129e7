//! What leaves the blocks: the picture's tokens, normalised (`AdaLayerNormContinuous`) and projected to the velocity.

use super::{Config, Layers, positions::Positions};
use crate::{
    AdapterSet, Result,
    checkpoint::Keys,
    linear::{Linear, LinearId},
    ops,
};
use candle_core::Tensor;
use std::ops::Range;

pub struct Output {
    norm_out: Linear,
    proj_out: Linear,
    pub ids: Range<LinearId>,
}

impl Output {
    pub fn load(keys: &Keys, config: &Config, layers: &mut Layers) -> Result<Self> {
        let (dim, start) = (config.inner_dim(), layers.next_id());
        let norm_out = layers.linear(&keys.at("norm_out.linear"), dim, 2 * dim)?;
        let proj_out = layers.linear(&keys.at("proj_out"), dim, config.in_channels)?;
        Ok(Self { norm_out, proj_out, ids: start..layers.next_id() })
    }

    /// joint: [B, text + picture, C], vector: [B, C] → [B, picture, 64]
    pub fn forward(&self, joint: &Tensor, vector: &Tensor, positions: &Positions, adapters: &AdapterSet) -> Result<Tensor> {
        let tokens = joint.dim(1)? - positions.text_tokens;
        let picture = joint.narrow(1, positions.text_tokens, tokens)?;
        // Unlike the blocks' modulations, scale comes before shift here.
        let modulation = self.norm_out.forward(vector, adapters)?.chunk(2, 1)?;
        let (scale, shift) = (&modulation[0], &modulation[1]);
        self.proj_out.forward(&ops::layer_norm_modulate(&picture, shift, scale)?, adapters)
    }
}
