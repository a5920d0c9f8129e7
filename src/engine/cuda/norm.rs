//! LayerNorm without weights and the modulation after it (twin: `ops::plain::layer_norm_modulate`, epsilon 1e-6).

use super::context::Context;
use super::fp8::Fp8Rows;
use super::kernels::{self, Emission, View, queued};
use super::storage::{Matrix, base, per_picture, uninitialised};
use super::{Arg, Pair};
use candle_core::{CudaDevice, CudaStorage, DType, Result};
use std::ptr::null_mut;

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

impl Rows {
    /// The rows when only [`Emit::Plain`] was asked for.
    pub fn into_plain(self) -> CudaStorage {
        self.plain.expect("Emit::Plain writes plain rows")
    }

    pub(super) fn uninitialised(device: &CudaDevice, like: &Matrix, emit: Emit) -> Result<Self> {
        let plain = (emit != Emit::Fp8).then(|| uninitialised(device, like.elements(), like.dtype)).transpose()?;
        let fp8 = (emit != Emit::Plain).then(|| Fp8Rows::uninitialised(device, like)).transpose()?;
        Ok(Self { plain, fp8 })
    }

    pub(super) fn emission(&self) -> Emission {
        let fp8 = self.fp8.as_ref();
        Emission {
            plain: self.plain.as_ref().map_or(null_mut(), base),
            codes: fp8.map_or(null_mut(), |fp8| base(&fp8.data)),
            scale: fp8.map_or(null_mut(), |fp8| base(&fp8.scale).cast()),
        }
    }
}

/// x̂·(1 + scale) + shift. x: rows [B, S, C], bf16 or f32, C ≤ 16384; shift, scale: rows [B, C] f32 → [B, S, C].
pub fn layer_norm_modulate(x: Arg, shift: Arg, scale: Arg, emit: Emit) -> Result<Rows> {
    const NAME: &str = "layer_norm_modulate";
    let context = Context::of(&x.0.device)?;
    let x = Matrix::of(x, "x")?;
    x.fit_registers(NAME)?;
    let (shift, scale) = (per_picture(shift, &x, "shift")?, per_picture(scale, &x, "scale")?);
    let rows = Rows::uninitialised(&context.device, &x, emit)?;
    if x.elements() > 0 {
        let shape = x.shape(x.vector() && shift.vector() && scale.vector())?;
        let to = rows.emission();
        // SAFETY: the views lie within their storages, and the outputs hold `x.elements()`.
        let error = unsafe { kernels::atelier_layer_norm_modulate(shape, x.view, shift.view, scale.view, to, context.stream()) };
        queued(error, NAME)?;
    }
    Ok(rows)
}

/// dx, and `beside` added to it: what flows around the norm. x, g, beside: rows [B, S, C] of one dtype; scale: rows [B, C] f32.
pub fn layer_norm_modulate_gradient(x: Arg, scale: Arg, g: Arg, beside: Option<Arg>) -> Result<CudaStorage> {
    const NAME: &str = "layer_norm_modulate_gradient";
    let context = Context::of(&x.0.device)?;
    let (x, g) = (Matrix::of(x, "x")?, Matrix::of(g, "g")?);
    x.fit_registers(NAME)?;
    g.expect_like(&x, "g")?;
    let scale = per_picture(scale, &x, "scale")?;
    let beside = beside.map(|beside| Matrix::of(beside, "beside")).transpose()?;
    beside.iter().try_for_each(|beside| beside.expect_like(&x, "beside"))?;
    let dx = uninitialised(&context.device, x.elements(), x.dtype)?;
    if x.elements() > 0 {
        let shape = x.shape([&x, &g, &scale].into_iter().chain(&beside).all(Matrix::vector))?;
        let beside = beside.map_or(View::NONE, |beside| beside.view);
        // SAFETY: the views lie within their storages, and dx holds `x.elements()`.
        let error = unsafe { kernels::atelier_layer_norm_gradient(shape, x.view, scale.view, g.view, beside, base(&dx), context.stream()) };
        queued(error, NAME)?;
    }
    Ok(dx)
}

/// (dshift, dscale), [B, C] f32 each, summed in an order that does not change. x, g: rows [B, S, C].
pub fn modulation_gradients(x: Arg, g: Arg) -> Result<Pair> {
    const NAME: &str = "modulation_gradients";
    let context = Context::of(&x.0.device)?;
    let (x, g) = (Matrix::of(x, "x")?, Matrix::of(g, "g")?);
    x.fit_registers(NAME)?;
    g.expect_like(&x, "g")?;
    let new = |rows: usize| uninitialised(&context.device, rows * x.batch * x.width, DType::F32);
    let chunks = chunks(&x);
    let (partial, dshift, dscale) = (new(2 * chunks)?, new(1)?, new(1)?);
    if x.batch * x.width > 0 {
        let shape = x.shape(x.vector() && g.vector())?;
        let [partial, dshift, dscale] = [&partial, &dshift, &dscale].map(|storage| base(storage).cast());
        // SAFETY: the views lie within their storages, and the outputs have the sizes that `kernels.h` names.
        let error = unsafe {
            kernels::atelier_modulation_gradients(shape, x.view, g.view, chunks as i32, partial, dshift, dscale, context.stream())
        };
        queued(error, NAME)?;
    }
    Ok((dshift, dscale))
}

/// Into how many runs of rows a sum over tokens is split: two blocks for each multiprocessor of an H100, four rows a block at least.
pub(super) fn chunks(x: &Matrix) -> usize {
    (264 / x.batch.max(1)).clamp(1, x.tokens.div_ceil(4).max(1))
}
