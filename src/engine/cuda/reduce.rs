//! Sums over whole buffers.

use super::Arg;
use super::context::Context;
use super::kernels::{self, code, queued};
use super::storage::{base, contiguous, uninitialised};
use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, DType, Result};

/// Blocks that sum on their own before one block adds them up.
const PARTIAL_SUMS: usize = 1024;

/// Σ x², [1] f32, in an order that does not change. x: contiguous f32 or bf16.
pub fn sum_of_squares(x: Arg) -> Result<CudaStorage> {
    let context = Context::of(&x.0.device)?;
    let (dtype, elements) = (x.0.dtype(), x.1.shape().elem_count());
    let from = contiguous(x, dtype, elements, "x")?;
    let partial = uninitialised(&context.device, PARTIAL_SUMS, DType::F32)?;
    let sum = uninitialised(&context.device, 1, DType::F32)?;
    let (to_partial, to_sum) = (base(&partial).cast(), base(&sum).cast());
    let dtype = code(dtype)?;
    // SAFETY: x holds `elements`, and the outputs have the sizes that `kernels.h` names.
    let error = unsafe { kernels::atelier_sum_of_squares(elements as i64, dtype, from, to_partial, to_sum, context.stream()) };
    queued(error, "sum_of_squares")?;
    Ok(sum)
}
