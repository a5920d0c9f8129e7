//! softmax(q·kᵀ/√D)·v over all tokens by cuDNN's fused kernels (twin: `ops::plain::attention`).

use super::Arg;
use candle_core::{CudaStorage, DType, Result};

/// What a forward pass leaves.
pub struct Attended {
    /// [B, S, H·D] bf16
    pub out: CudaStorage,
    /// [B, H, S] f32: log Σ exp of each row's scaled scores, if asked for; the gradient needs it.
    pub log_sum_exp: Option<CudaStorage>,
}

/// Whether [`attention`] takes these: bf16, D a multiple of 8 and at most 128. Else use the plain twin.
pub fn supports(dtype: DType, head_dim: usize) -> bool;

/// qkv: contiguous [B, S, 3, H, D] (or [B, S, 3·H·D]).
///
/// # Errors
/// What [`supports`] refuses; cuDNN 9 missing.
pub fn attention(qkv: Arg, heads: usize, keep_log_sum_exp: bool) -> Result<Attended>;

/// dqkv, packed as qkv. out, log_sum_exp: what [`attention`] left; g: contiguous [B, S, H·D]. The same bits on every run.
pub fn attention_gradient(qkv: Arg, heads: usize, out: Arg, log_sum_exp: Arg, g: Arg) -> Result<CudaStorage>;
