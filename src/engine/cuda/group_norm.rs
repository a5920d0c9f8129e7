//! GroupNorm and the SiLU that usually follows it (twin: `ops::plain::group_norm`).

use super::Arg;
use candle_core::{CudaStorage, Result};

/// x: contiguous [B, C, H, W] bf16 or f32; weight, bias: [C] f32.
pub fn group_norm(x: Arg, weight: Arg, bias: Arg, groups: usize, epsilon: f32, silu: bool) -> Result<CudaStorage>;
