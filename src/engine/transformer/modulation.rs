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
        let chunks = chunk(&linear.forward(vector, adapters)?, 3 * N)?;
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

/// [B, n·C] → n · [B, C], each contiguous.
pub fn chunk(x: &Tensor, n: usize) -> Result<Vec<Tensor>> {
    Ok(x.chunk(n, 1)?.iter().map(Tensor::contiguous).collect::<candle_core::Result<_>>()?)
}
