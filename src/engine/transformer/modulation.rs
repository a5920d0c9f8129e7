//! Adaptive layer norm (`AdaLayerNormZero`, `AdaLayerNormZeroSingle`): shift, scale and gate from the vector.

use crate::{AdapterSet, Result, linear::Linear, ops};
use candle_core::Tensor;

/// Each [B, C].
pub struct Modulation {
    shift: Tensor,
    scale: Tensor,
    gate: Tensor,
}

impl Modulation {
    /// `N` modulations from one linear layer: [B, C] → N · 3 · [B, C], order shift, scale, gate.
    pub fn from_vector<const N: usize>(linear: &Linear, vector: &Tensor, adapters: &AdapterSet) -> Result<[Self; N]> {
        let chunks = linear.forward(vector, adapters)?.chunk(3 * N, 1)?;
        Ok(std::array::from_fn(|i| Self {
            shift: chunks[3 * i].clone(),
            scale: chunks[3 * i + 1].clone(),
            gate: chunks[3 * i + 2].clone(),
        }))
    }

    /// LayerNorm(x)·(1 + scale) + shift. x: [B, S, C]
    pub fn norm(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm_modulate(x, &self.shift, &self.scale)
    }

    /// residual + gate·x
    pub fn add_gated(&self, residual: &Tensor, x: &Tensor) -> Result<Tensor> {
        ops::gate_residual(residual, &self.gate, x)
    }
}
