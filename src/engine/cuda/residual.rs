//! Gate and residual (twin: `ops::plain::gate_residual`).

use super::Arg;
use super::context::Context;
use super::kernels::{self, queued};
use super::norm::chunks;
use super::storage::{Matrix, base, per_picture, uninitialised};
use candle_core::{CudaStorage, DType, Result};

/// residual + gate·x. residual, x: rows [B, S, C] of one dtype; gate: rows [B, C] f32.
pub fn gate_residual(residual: Arg, gate: Arg, x: Arg) -> Result<CudaStorage> {
    const NAME: &str = "gate_residual";
    let context = Context::of(&x.0.device)?;
    let (residual, x) = (Matrix::of(residual, "residual")?, Matrix::of(x, "x")?);
    x.fit_registers(NAME)?;
    residual.expect_like(&x, "residual")?;
    let gate = per_picture(gate, &x, "gate")?;
    let y = uninitialised(&context.device, x.elements(), x.dtype)?;
    if x.elements() > 0 {
        let shape = x.shape(residual.vector() && gate.vector() && x.vector())?;
        // SAFETY: the views lie within their storages, and y holds `x.elements()`.
        queued(unsafe { kernels::atelier_gate_residual(shape, residual.view, gate.view, x.view, base(&y), context.stream()) }, NAME)?;
    }
    Ok(y)
}

/// dx = gate·g. (The residual's gradient is g itself.) g: rows [B, S, C]; gate: rows [B, C] f32.
pub fn gate_gradient_x(gate: Arg, g: Arg) -> Result<CudaStorage> {
    const NAME: &str = "gate_gradient_x";
    let context = Context::of(&g.0.device)?;
    let g = Matrix::of(g, "g")?;
    g.fit_registers(NAME)?;
    let gate = per_picture(gate, &g, "gate")?;
    let dx = uninitialised(&context.device, g.elements(), g.dtype)?;
    if g.elements() > 0 {
        let shape = g.shape(gate.vector() && g.vector())?;
        // SAFETY: the views lie within their storages, and dx holds `g.elements()`.
        queued(unsafe { kernels::atelier_gate_gradient_x(shape, gate.view, g.view, base(&dx), context.stream()) }, NAME)?;
    }
    Ok(dx)
}

/// dgate = Σ over tokens of g·x, [B, C] f32, summed in an order that does not change. x, g: rows [B, S, C] of one dtype.
pub fn gate_gradient(x: Arg, g: Arg) -> Result<CudaStorage> {
    const NAME: &str = "gate_gradient";
    let context = Context::of(&x.0.device)?;
    let (x, g) = (Matrix::of(x, "x")?, Matrix::of(g, "g")?);
    x.fit_registers(NAME)?;
    g.expect_like(&x, "g")?;
    let chunks = chunks(&x);
    let partial = uninitialised(&context.device, chunks * x.batch * x.width, DType::F32)?;
    let dgate = uninitialised(&context.device, x.batch * x.width, DType::F32)?;
    if x.batch * x.width > 0 {
        let shape = x.shape(x.vector() && g.vector())?;
        let (partial, dgate) = (base(&partial).cast(), base(&dgate).cast());
        // SAFETY: the views lie within their storages, and the outputs have the sizes that `kernels.h` names.
        queued(unsafe { kernels::atelier_gate_gradient(shape, x.view, g.view, chunks as i32, partial, dgate, context.stream()) }, NAME)?;
    }
    Ok(dgate)
}
