//! Gate and residual, alone or with the norm that follows (twins: `ops::plain::{gate_residual, layer_norm_modulate}`).

use super::Arg;
use super::context::Context;
use super::kernels::{self, queued};
use super::norm::{Emit, Rows, chunks};
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

/// y = residual + gate·x and its layer norm, modulated: (y, rows). C ≤ 16384. The norm reads y as it was rounded to its dtype, so the
/// result is that of the two functions in turn.
pub fn gate_residual_norm(residual: Arg, gate: Arg, x: Arg, shift: Arg, scale: Arg, emit: Emit) -> Result<(CudaStorage, Rows)> {
    const NAME: &str = "gate_residual_norm";
    let context = Context::of(&x.0.device)?;
    let (residual, x) = (Matrix::of(residual, "residual")?, Matrix::of(x, "x")?);
    x.fit_registers(NAME)?;
    residual.expect_like(&x, "residual")?;
    let gate = per_picture(gate, &x, "gate")?;
    let (shift, scale) = (per_picture(shift, &x, "shift")?, per_picture(scale, &x, "scale")?);
    let y = uninitialised(&context.device, x.elements(), x.dtype)?;
    let rows = Rows::uninitialised(&context.device, &x, emit)?;
    if x.elements() > 0 {
        let shape = x.shape([&residual, &gate, &x, &shift, &scale].into_iter().all(Matrix::vector))?;
        let (y, to) = (base(&y), rows.emission());
        // SAFETY: the views lie within their storages, and the outputs hold `x.elements()`.
        let error = unsafe {
            kernels::atelier_gate_residual_norm(shape, residual.view, gate.view, x.view, shift.view, scale.view, y, to, context.stream())
        };
        queued(error, NAME)?;
    }
    Ok((y, rows))
}
