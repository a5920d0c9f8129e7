//! Normalisations fused with what follows them: LayerNorm + modulation, RMSNorm + rotary embedding.

use super::{Rope, plain};
use crate::Result;
use candle_core::Tensor;

/// FLUX's epsilon for both norms.
pub const EPSILON: f64 = 1e-6;

/// LayerNorm without weights, then x·(1 + scale) + shift. x: [B, S, C]; shift, scale: [B, C].
pub fn layer_norm_modulate(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Result<Tensor> {
    Ok(plain::layer_norm_modulate(x, shift, scale, EPSILON)?)
}

/// RMSNorm over each head, then rotary embedding. x: [B, S, H, D]; weight: [D].
pub fn rms_norm_rope(x: &Tensor, weight: &Tensor, rope: &Rope) -> Result<Tensor> {
    Ok(plain::rms_norm_rope(x, weight, &rope.cos, &rope.sin, EPSILON)?)
}
