//! Products with frozen weights: forward and dX, never dW.

use crate::{LoraPair, Result};
use candle_core::Tensor;

/// A frozen weight, held as the product wants it.
pub struct Weight {
    weight: Tensor,
}

impl Weight {
    /// weight: [out, in], bf16, f16 or f32.
    pub fn new(weight: &Tensor) -> Result<Self> {
        Ok(Self { weight: weight.to_dtype(candle_core::DType::F32)? })
    }

    pub fn in_features(&self) -> usize {
        self.weight.dims()[1]
    }

    pub fn out_features(&self) -> usize {
        self.weight.dims()[0]
    }
}

/// x·Wᵀ + b. x: [.., in] → [.., out]
pub fn linear(x: &Tensor, weight: &Weight, bias: Option<&Tensor>) -> Result<Tensor> {
    Ok(super::plain::linear(x, &weight.weight, bias)?)
}

/// y + scale·(x·Aᵀ)·Bᵀ, with gradients for x, A and B.
pub fn add_lora(y: &Tensor, x: &Tensor, pair: &LoraPair) -> Result<Tensor> {
    Ok(super::plain::add_lora(y, x, &pair.a, &pair.b, pair.scale)?)
}
