//! Queries, keys and values of one stream (`FluxAttnProcessor`'s first half).

use super::{Config, Layers};
use crate::{
    AdapterSet, Result,
    checkpoint::Keys,
    linear::Linear,
    ops::{self, Rope},
};
use candle_core::Tensor;

/// Queries, keys and values by head; queries and keys normalised and rotated.
pub struct Qkv {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    /// [D] each
    norm_q: Tensor,
    norm_k: Tensor,
    heads: usize,
}

impl Qkv {
    pub fn load(keys: &Keys, qkv: [&str; 3], norms: [&str; 2], config: &Config, layers: &mut Layers) -> Result<Self> {
        let (dim, head) = (config.inner_dim(), config.attention_head_dim);
        Ok(Self {
            to_q: layers.linear(&keys.at(qkv[0]), dim, dim)?,
            to_k: layers.linear(&keys.at(qkv[1]), dim, dim)?,
            to_v: layers.linear(&keys.at(qkv[2]), dim, dim)?,
            norm_q: keys.at(norms[0]).take_f32("weight", &[head])?,
            norm_k: keys.at(norms[1]).take_f32("weight", &[head])?,
            heads: config.num_attention_heads,
        })
    }

    /// [B, S, C] → 3 · [B, S, H, D]
    pub fn forward(&self, x: &Tensor, rope: &Rope, adapters: &AdapterSet) -> Result<[Tensor; 3]> {
        let (b, s, c) = x.dims3()?;
        let split = |x: Tensor| x.reshape((b, s, self.heads, c / self.heads));
        let q = split(self.to_q.forward(x, adapters)?)?;
        let k = split(self.to_k.forward(x, adapters)?)?;
        let v = split(self.to_v.forward(x, adapters)?)?;
        Ok([ops::rms_norm_rope(&q, &self.norm_q, rope)?, ops::rms_norm_rope(&k, &self.norm_k, rope)?, v])
    }
}
