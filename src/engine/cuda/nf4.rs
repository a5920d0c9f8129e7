//! NF4 in blocks of 64 (Dettmers et al. 2023, arXiv 2305.14314), laid out as bitsandbytes does: two codes a byte, the first in the high half.

use super::Arg;
use candle_core::{CudaStorage, DType, Result};

/// The largest magnitude of each block of 64.
#[derive(Clone, Copy)]
pub enum Absmax<'a> {
    /// [n/64] f32
    Plain(Arg<'a>),
    /// In 8 bits (signed dynamic code) in blocks of 256 after subtracting their mean:
    /// absmax = dynamic[code]·scale[block] + offset.
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
pub enum OwnedAbsmax {
    Plain(CudaStorage),
    Double { codes: CudaStorage, scale: CudaStorage, offset: CudaStorage },
}

/// w: contiguous, bf16 or f32, a multiple of 64 elements → (codes [n/2] u8, absmax).
pub fn quantise(w: Arg, double: bool) -> Result<(CudaStorage, OwnedAbsmax)>;

/// codes: [n/2] u8 → [n] in `dtype` (bf16 or f32).
pub fn dequantise(codes: Arg, absmax: Absmax, dtype: DType) -> Result<CudaStorage>;
