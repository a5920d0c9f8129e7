//! Nearest-neighbour ×2 over channels-last feature maps (twin: `ops::plain::upsample`).

use super::Arg;
use super::context::Context;
use super::kernels::{self, queued};
use super::storage::{base, contiguous, uninitialised};
use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, Result};

/// x: contiguous [B, H, W, C] of two or four bytes an element → [B, 2·H, 2·W, C].
pub fn upsample(x: Arg) -> Result<CudaStorage> {
    let context = Context::of(&x.0.device)?;
    let (dtype, (batch, height, width, channels)) = (x.0.dtype(), x.1.shape().dims4()?);
    let elements = batch * height * width * channels;
    let from = contiguous(x, dtype, elements, "x")?;
    let y = uninitialised(&context.device, 4 * elements, dtype)?;
    if elements > 0 {
        let (rows, width, pixel) = ((batch * height) as i64, width as i32, (channels * dtype.size_in_bytes()) as i64);
        // SAFETY: x holds `rows` times `width` pixels, y four times as many.
        let error = unsafe { kernels::atelier_upsample(rows, width, pixel, from, base(&y), context.stream()) };
        queued(error, "upsample")?;
    }
    Ok(y)
}
