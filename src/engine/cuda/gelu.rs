//! GELU, tanh approximation (twin: `ops::plain::gelu`).

use super::Arg;
use super::context::Context;
use super::kernels::{self, queued};
use super::norm::{Emit, Rows};
use super::storage::{Matrix, base, uninitialised};
use candle_core::{CudaStorage, Result};

/// x: rows [.., C], bf16 or f32, C ≤ 16384.
pub fn gelu(x: Arg, emit: Emit) -> Result<Rows> {
    const NAME: &str = "gelu";
    let context = Context::of(&x.0.device)?;
    let x = Matrix::of(x, "x")?;
    x.fit_registers(NAME)?;
    let rows = Rows::uninitialised(&context.device, &x, emit)?;
    if x.elements() > 0 {
        // SAFETY: the view lies within its storage, and the outputs hold `x.elements()`.
        queued(unsafe { kernels::atelier_gelu(x.shape(x.vector())?, x.view, rows.emission(), context.stream()) }, NAME)?;
    }
    Ok(rows)
}

/// g·gelu′(x). x, g: rows [.., C] of one dtype, C ≤ 16384.
pub fn gelu_gradient(x: Arg, g: Arg) -> Result<CudaStorage> {
    const NAME: &str = "gelu_gradient";
    let context = Context::of(&x.0.device)?;
    let (x, g) = (Matrix::of(x, "x")?, Matrix::of(g, "g")?);
    x.fit_registers(NAME)?;
    g.expect_like(&x, "g")?;
    let dx = uninitialised(&context.device, x.elements(), x.dtype)?;
    if x.elements() > 0 {
        let shape = x.shape(x.vector() && g.vector())?;
        // SAFETY: the views lie within their storages, and dx holds `x.elements()`.
        queued(unsafe { kernels::atelier_gelu_gradient(shape, x.view, g.view, base(&dx), context.stream()) }, NAME)?;
    }
    Ok(dx)
}
