//! Nearest-neighbour ×2 (twin: `ops::plain::upsample`).

use super::Arg;
use super::context::Context;
use super::kernels::{self, code, queued};
use super::storage::{base, contiguous, uninitialised};
use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, Result};

/// x: contiguous [B, C, H, W] bf16 or f32 → [B, C, 2·H, 2·W].
pub fn upsample(x: Arg) -> Result<CudaStorage> {
    let context = Context::of(&x.0.device)?;
    let (dtype, (batch, channels, height, width)) = (x.0.dtype(), x.1.shape().dims4()?);
    let rows = batch * channels * height;
    let from = contiguous(x, dtype, rows * width, "x")?;
    let y = uninitialised(&context.device, 4 * rows * width, dtype)?;
    if rows * width > 0 {
        let (rows, width, dtype) = (rows as i64, width as i32, code(dtype)?);
        // SAFETY: x holds `rows` times `width`, y four times as many.
        let error = unsafe { kernels::atelier_upsample(rows, width, dtype, from, base(&y), context.stream()) };
        queued(error, "upsample")?;
    }
    Ok(y)
}
