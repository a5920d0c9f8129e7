//! ×2 by repeating pixels and a 3×3 convolution, as the convolution of the small picture that it is: what remains after it.

use super::Arg;
use super::context::Context;
use super::kernels::{self, queued};
use super::storage::{base, contiguous, uninitialised};
use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, Result};

/// Lays four phases into each other: y[2i + a, 2j + b] = x[i + a, j + b, phase 2a + b]. x: contiguous [B, H + 1, W + 1, 4·C] of two or four
/// bytes an element → [B, 2·H, 2·W, C].
pub fn join_phases(x: Arg) -> Result<CudaStorage> {
    let context = Context::of(&x.0.device)?;
    let (dtype, (batch, height, width, channels)) = (x.0.dtype(), x.1.shape().dims4()?);
    if height < 2 || width < 2 || channels % 4 != 0 {
        candle_core::bail!("phases are [B, H + 1, W + 1, 4·C], not {:?}", x.1.shape());
    }
    let from = contiguous(x, dtype, x.1.shape().elem_count(), "phases")?;
    let (height, width, channels) = (height - 1, width - 1, channels / 4);
    let elements = 4 * batch * height * width * channels;
    let y = uninitialised(&context.device, elements, dtype)?;
    if elements > 0 {
        let (rows, width, pixel) = ((batch * height) as i64, width as i32, (channels * dtype.size_in_bytes()) as i64);
        // SAFETY: x and y have the sizes just computed.
        let error = unsafe { kernels::atelier_join_phases(rows, height as i32, width, pixel, from, base(&y), context.stream()) };
        queued(error, "join_phases")?;
    }
    Ok(y)
}
