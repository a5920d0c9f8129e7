//! Sums over whole buffers.

use super::Arg;
use candle_core::{CudaStorage, Result};

/// Σ x², [1] f32, in an order that does not change. x: contiguous f32 or bf16.
pub fn sum_of_squares(x: Arg) -> Result<CudaStorage>;
