//! Attention with a bias on the scores, as CLIP (causal mask) and T5 (relative positions) need it.

use crate::{Result, linear::Linear};
use candle_core::{D, Tensor};

pub struct Attention {
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub out: Linear,
    pub heads: usize,
    /// On the scores: 1/√D for CLIP, 1 for T5.
    pub scale: f64,
}

impl Attention {
    /// x: [B, S, C]; bias: broadcastable to [B, H, S, S] → [B, S, C]
    pub fn forward(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let (b, s, _) = x.dims3()?;
        // (b, s, h·d) -> (b, h, s, d)
        let heads = |x: Tensor| x.reshape((b, s, self.heads, ()))?.transpose(1, 2)?.contiguous();
        let q = (heads(self.q.apply(x)?)? * self.scale)?;
        let k = heads(self.k.apply(x)?)?;
        let v = heads(self.v.apply(x)?)?;
        let scores = q.matmul(&k.t()?)?.broadcast_add(bias)?;
        let weights = candle_nn::ops::softmax_last_dim(&scores)?;
        let attended = weights.matmul(&v)?.transpose(1, 2)?.flatten_from(D::Minus2)?;
        self.out.apply(&attended)
    }
}
