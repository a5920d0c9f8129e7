//! LayerNorm without weights and the modulation after it (twin: `ops::plain::layer_norm_modulate`, epsilon 1e-6).

use super::{Arg, fp8::Fp8Rows};
use candle_core::{CudaStorage, Result};

/// In what form a kernel that feeds a product writes its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// In x's dtype.
    Plain,
    /// In fp8 with a scale per row, for an fp8 product.
    Fp8,
    /// Both: an fp8 product whose input an adapter also reads.
    Both,
}

/// What was asked for with [`Emit`].
pub struct Rows {
    /// [.., C] in x's dtype.
    pub plain: Option<CudaStorage>,
    pub fp8: Option<Fp8Rows>,
}

/// x̂·(1 + scale) + shift. x: rows [B, S, C], bf16 or f32, C ≤ 15360; shift, scale: rows [B, C] f32 → [B, S, C].
pub fn layer_norm_modulate(x: Arg, shift: Arg, scale: Arg, emit: Emit) -> Result<Rows>;

/// dx. x, g: rows [B, S, C] of one dtype; scale: rows [B, C] f32.
pub fn layer_norm_modulate_gradient(x: Arg, scale: Arg, g: Arg) -> Result<CudaStorage>;

/// (dshift, dscale), [B, C] f32 each, summed in an order that does not change. x, g: rows [B, S, C].
pub fn modulation_gradients(x: Arg, g: Arg) -> Result<(CudaStorage, CudaStorage)>;
