//! GELU and the gated residual, forward and backward.

use crate::Result;
use candle_core::Tensor;

/// residual + gate·x. residual, x: [B, S, C]; gate: [B, C].
pub fn gate_residual(residual: &Tensor, gate: &Tensor, x: &Tensor) -> Result<Tensor> {
    Ok(super::plain::gate_residual(residual, gate, x)?)
}

/// GELU, tanh approximation.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    Ok(super::plain::gelu(x)?)
}
