//! Nearest-neighbour ×2 (twin: `ops::plain::upsample`).

use super::Arg;
use candle_core::{CudaStorage, Result};

/// x: contiguous [B, C, H, W] bf16 or f32 → [B, C, 2·H, 2·W].
pub fn upsample(x: Arg) -> Result<CudaStorage>;
