//! GELU, tanh approximation (twin: `ops::plain::gelu`).

use super::{Arg, norm::{Emit, Rows}};
use candle_core::{CudaStorage, Result};

/// x: rows [.., C], bf16 or f32; with fp8, C ≤ 15360.
pub fn gelu(x: Arg, emit: Emit) -> Result<Rows>;

/// g·gelu′(x). x, g: rows [.., C] of one dtype.
pub fn gelu_gradient(x: Arg, g: Arg) -> Result<CudaStorage>;
