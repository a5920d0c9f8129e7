//! Gate and residual, alone or with the norm that follows (twins: `ops::plain::{gate_residual, layer_norm_modulate}`).

use super::{Arg, norm::{Emit, Rows}};
use candle_core::{CudaStorage, Result};

/// residual + gate·x. residual, x: rows [B, S, C] of one dtype; gate: rows [B, C] f32.
pub fn gate_residual(residual: Arg, gate: Arg, x: Arg) -> Result<CudaStorage>;

/// dx = gate·g. (The residual's gradient is g itself.)
pub fn gate_gradient_x(gate: Arg, g: Arg) -> Result<CudaStorage>;

/// dgate = Σ over tokens of g·x, [B, C] f32, summed in an order that does not change.
pub fn gate_gradient(x: Arg, g: Arg) -> Result<CudaStorage>;

/// y = residual + gate·x and its layer norm, modulated: (y, rows). C ≤ 15360. The norm reads y as it was rounded to its dtype,
/// so the result is that of the two functions in turn.
pub fn gate_residual_norm(residual: Arg, gate: Arg, x: Arg, shift: Arg, scale: Arg, emit: Emit) -> Result<(CudaStorage, Rows)>;
