//! Attention with a bias on the scores, as CLIP (causal mask) and T5 (relative positions) need it.

use crate::{Result, adapter::SidePaths, linear::Linear, ops};
use candle_core::{DType, Tensor};

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
    pub fn forward(&self, x: &Tensor, bias: &Tensor, paths: &SidePaths) -> Result<Tensor> {
        let (b, s, _) = x.dims3()?;
        let input = x.into();
        // (b, s, h·d) -> (b, s, h, d), in f32 as the reference's softmax: T5's scores are not scaled, and bf16 has three digits.
        let heads = |linear: &Linear| -> Result<Tensor> {
            Ok(linear.forward(&input, paths)?.to_dtype(DType::F32)?.reshape((b, s, self.heads, ()))?)
        };
        let attended = ops::attention_with_bias(&heads(&self.q)?, &heads(&self.k)?, &heads(&self.v)?, self.scale, bias)?;
        self.out.forward(&(&attended.to_dtype(x.dtype())?).into(), paths)
    }
}
