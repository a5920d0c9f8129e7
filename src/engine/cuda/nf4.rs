//! NF4 in blocks of 64 (Dettmers et al. 2023, arXiv 2305.14314), laid out as bitsandbytes does: two codes a byte, the first in the high half.

use super::Arg;
use super::context::Context;
use super::kernels::{self, code, queued};
use super::storage::{base, contiguous, uninitialised};
use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, DType, Result};
use std::ptr::null;

/// Elements that share an absmax.
pub const BLOCK: usize = 64;
/// Absmax values that share a scale.
pub const ABSMAX_BLOCK: usize = 256;

/// The largest magnitude of each block of 64.
#[derive(Clone, Copy)]
pub enum Absmax<'a> {
    /// [n/64] f32
    Plain(Arg<'a>),
    /// In 8 bits (signed dynamic code) in blocks of 256 after subtracting their mean: absmax = dynamic[code]·scale[block] + offset.
    Double {
        /// [n/64] u8
        codes: Arg<'a>,
        /// [n/64/256, rounded up] f32
        scale: Arg<'a>,
        /// [1] f32
        offset: Arg<'a>,
    },
}

/// The same, owned.
#[expect(clippy::large_enum_variant, reason = "made once a weight, and not moved about")]
pub enum OwnedAbsmax {
    Plain(CudaStorage),
    Double { codes: CudaStorage, scale: CudaStorage, offset: CudaStorage },
}

/// w: contiguous, bf16 or f32, a multiple of 64 elements → (codes [n/2] u8, absmax).
pub fn quantise(w: Arg, double: bool) -> Result<(CudaStorage, OwnedAbsmax)> {
    let context = Context::of(&w.0.device)?;
    let elements = w.1.shape().elem_count();
    if elements == 0 || !elements.is_multiple_of(BLOCK) {
        candle_core::bail!("NF4 takes a multiple of {BLOCK} elements, not {elements}");
    }
    let from = aligned(contiguous(w, w.0.dtype(), elements, "an NF4 weight")?, "an NF4 weight")?;
    let codes = uninitialised(&context.device, elements / 2, DType::U8)?;
    let absmax = uninitialised(&context.device, elements / BLOCK, DType::F32)?;
    let dtype = code(w.0.dtype())?;
    // SAFETY: w holds `elements`, codes half a byte and absmax a 64th of a number for each.
    let error =
        unsafe { kernels::atelier_nf4_quantise(elements as i64, dtype, from, base(&codes), base(&absmax).cast(), context.stream()) };
    queued(error, "nf4 quantise")?;
    let absmax = if double { quantise_absmax(&context, absmax)? } else { OwnedAbsmax::Plain(absmax) };
    Ok((codes, absmax))
}

fn quantise_absmax(context: &Context, absmax: CudaStorage) -> Result<OwnedAbsmax> {
    let blocks = absmax.as_cuda_slice::<f32>()?.len();
    let codes = uninitialised(&context.device, blocks, DType::U8)?;
    let scale = uninitialised(&context.device, blocks.div_ceil(ABSMAX_BLOCK), DType::F32)?;
    let offset = uninitialised(&context.device, 1, DType::F32)?;
    // SAFETY: absmax and codes hold `blocks`, scale one for every 256 of them, offset one.
    let error = unsafe {
        kernels::atelier_dynamic_quantise(
            blocks as i64,
            base(&absmax).cast(),
            base(&context.dynamic).cast(),
            base(&codes).cast(),
            base(&scale).cast(),
            base(&offset).cast(),
            context.stream(),
        )
    };
    queued(error, "nf4 quantise")?;
    Ok(OwnedAbsmax::Double { codes, scale, offset })
}

/// codes: [n/2] u8 contiguous → [n] in `dtype` (bf16 or f32).
pub fn dequantise(codes: Arg, absmax: Absmax, dtype: DType) -> Result<CudaStorage> {
    let context = Context::of(&codes.0.device)?;
    let elements = 2 * codes.1.shape().elem_count();
    if elements == 0 || !elements.is_multiple_of(BLOCK) {
        candle_core::bail!("NF4 codes are of a multiple of {BLOCK} elements, not of {elements}");
    }
    let from = aligned(contiguous(codes, DType::U8, elements / 2, "NF4 codes")?, "NF4 codes")?;
    let w = uninitialised(&context.device, elements, dtype)?;
    let absmax = absmax.checked(&context, elements / BLOCK)?;
    // SAFETY: codes, absmax and w have the sizes just checked.
    let error = unsafe { kernels::atelier_nf4_dequantise(elements as i64, code(dtype)?, from, absmax, base(&w), context.stream()) };
    queued(error, "nf4 dequantise")?;
    Ok(w)
}

impl Absmax<'_> {
    fn checked(self, context: &Context, blocks: usize) -> Result<kernels::Absmax> {
        let none = kernels::Absmax { plain: null(), codes: null(), scale: null(), offset: null(), dynamic: null() };
        Ok(match self {
            Self::Plain(absmax) => kernels::Absmax { plain: contiguous(absmax, DType::F32, blocks, "NF4's absmax")?.cast(), ..none },
            Self::Double { codes, scale, offset } => kernels::Absmax {
                codes: contiguous(codes, DType::U8, blocks, "NF4's absmax codes")?.cast(),
                scale: contiguous(scale, DType::F32, blocks.div_ceil(ABSMAX_BLOCK), "NF4's absmax scale")?.cast(),
                offset: contiguous(offset, DType::F32, 1, "NF4's absmax offset")?.cast(),
                dynamic: base(&context.dynamic).cast(),
                ..none
            },
        })
    }
}

fn aligned(start: *mut std::ffi::c_void, what: &str) -> Result<*mut std::ffi::c_void> {
    if !(start as usize).is_multiple_of(16) {
        candle_core::bail!("{what} must start at a multiple of 16 bytes: copy it");
    }
    Ok(start)
}
