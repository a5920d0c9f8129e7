//! Attention with a bias on the scores, as CLIP (causal mask) and T5 (relative positions) need it.

use crate::{Result, linear::Linear, ops};
use candle_core::Tensor;

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
    /// x: [B, S, C]; bias: [H or 1, S, S] → [B, S, C]
    pub fn forward(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let (b, s, _) = x.dims3()?;
        // (b, s, h·d) -> (b, s, h, d)
        let heads = |linear: &Linear| -> Result<Tensor> { Ok(linear.apply(x)?.reshape((b, s, self.heads, ()))?) };
        let attended = ops::attention_with_bias(&heads(&self.q)?, &heads(&self.k)?, &heads(&self.v)?, self.scale, bias)?;
        self.out.apply(&attended)
    }
}
