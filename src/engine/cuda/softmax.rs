//! softmax of whole rows, for attention whose heads are too wide for the fused kind (twin: `ops::plain::softmax`).

use super::Out;
use super::context::Context;
use super::kernels::{self, code, queued};
use super::storage::contiguous;
use candle_core::Result;
use candle_core::backend::BackendStorage;

/// softmax(scale·x) over the last dimension, in place. x: contiguous bf16 or f32; scale > 0.
pub fn softmax_in_place(x: Out, scale: f32) -> Result<()> {
    let (context, dtype) = (Context::of(&x.0.device)?, x.0.dtype());
    let (elements, width) = (x.1.shape().elem_count(), x.1.dims().last().copied().unwrap_or(1));
    let start = contiguous((x.0, x.1), dtype, elements, "scores")?;
    if elements == 0 {
        return Ok(());
    }
    // SAFETY: x holds rows of `width`, and is lent to be written.
    let error = unsafe { kernels::atelier_softmax((elements / width) as i64, width as i32, code(dtype)?, scale, start, context.stream()) };
    queued(error, "softmax")
}
