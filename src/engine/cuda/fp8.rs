//! fp8 e4m3 with one f32 scale per row: scale = max|row| / 448, value = scale·code. A row of zeros has scale 1.

use super::Arg;
use candle_core::{CudaStorage, DType, Result};

/// An fp8 matrix: data [.., K] `F8E4M3` contiguous, scale [rows] f32.
#[derive(Clone, Copy)]
pub struct Fp8<'a> {
    pub data: Arg<'a>,
    pub scale: Arg<'a>,
}

/// The same, owned: data as many elements as the source, scale one per row.
pub struct Fp8Rows {
    pub data: CudaStorage,
    pub scale: CudaStorage,
}

/// x: rows [.., C] bf16 or f32, C ≤ 15360. For weights [out, in] and activations alike.
pub fn quantise(x: Arg) -> Result<Fp8Rows>;

/// [.., C] in `dtype` (bf16 or f32).
pub fn dequantise(x: Fp8, dtype: DType) -> Result<CudaStorage>;
