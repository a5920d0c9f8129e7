//! A single block (`FluxSingleTransformerBlock`): text and picture share weights; attention and MLP run side by side.

use super::{Config, Layers, modulation::Modulation, positions::Positions, qkv::Qkv};
use crate::{
    AdapterSet, Result,
    checkpoint::Keys,
    linear::{Linear, LinearId},
    ops,
};
use candle_core::Tensor;
use std::ops::Range;

pub struct SingleBlock {
    norm: Linear,
    qkv: Qkv,
    proj_mlp: Linear,
    proj_out: Linear,
    pub ids: Range<LinearId>,
}

impl SingleBlock {
    pub fn load(keys: &Keys, config: &Config, layers: &mut Layers) -> Result<Self> {
        let (dim, mlp, start) = (config.inner_dim(), config.mlp_dim(), layers.next_id());
        let norm = layers.linear(&keys.at("norm.linear"), dim, 3 * dim)?;
        let qkv = Qkv::load(&keys.at("attn"), ["to_q", "to_k", "to_v"], ["norm_q", "norm_k"], config, layers)?;
        let proj_mlp = layers.linear(&keys.at("proj_mlp"), dim, mlp)?;
        let proj_out = layers.linear(&keys.at("proj_out"), dim + mlp, dim)?;
        Ok(Self { norm, qkv, proj_mlp, proj_out, ids: start..layers.next_id() })
    }

    /// joint: [B, text + picture, C], vector: [B, C] → [B, text + picture, C]
    pub fn forward(&self, joint: &Tensor, vector: &Tensor, positions: &Positions, adapters: &AdapterSet) -> Result<Tensor> {
        let [modulation] = Modulation::from_vector(&self.norm, vector, adapters)?;
        let x = modulation.norm(joint)?;
        let [q, k, v] = self.qkv.forward(&x, &positions.joint, adapters)?;
        let attended = ops::attention(&q, &k, &v)?;
        let hidden = ops::gelu(&self.proj_mlp.forward(&x, adapters)?)?;
        let both = Tensor::cat(&[attended, hidden], 2)?; // (b, s, c + 4c)
        modulation.add_gated(joint, &self.proj_out.forward(&both, adapters)?)
    }
}
