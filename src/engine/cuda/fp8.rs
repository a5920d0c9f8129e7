//! fp8 e4m3 with one f32 scale per row: scale = max|row| / 448, value = scale·code. A row of zeros has scale 1.

use super::Arg;
use super::context::Context;
use super::kernels::{self, queued};
use super::storage::{Matrix, base, contiguous, uninitialised};
use candle_core::backend::BackendStorage;
use candle_core::{CudaDevice, CudaStorage, DType, Result};

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

impl Fp8Rows {
    pub(super) fn uninitialised(device: &CudaDevice, like: &Matrix) -> Result<Self> {
        let data = uninitialised(device, like.elements(), DType::F8E4M3)?;
        Ok(Self { data, scale: uninitialised(device, like.count(), DType::F32)? })
    }
}

/// x: rows [.., C] bf16 or f32, C ≤ 16384. For weights [out, in] and activations alike.
pub fn quantise(x: Arg) -> Result<Fp8Rows> {
    const NAME: &str = "fp8 quantise";
    let context = Context::of(&x.0.device)?;
    let x = Matrix::of(x, "x")?;
    x.fit_registers(NAME)?;
    let rows = Fp8Rows::uninitialised(&context.device, &x)?;
    if x.elements() > 0 {
        let (data, scale) = (base(&rows.data), base(&rows.scale).cast());
        // SAFETY: the view lies within its storage, and the outputs have a byte per element and a scale per row.
        queued(unsafe { kernels::atelier_fp8_quantise(x.shape(x.vector())?, x.view, data, scale, context.stream()) }, NAME)?;
    }
    Ok(rows)
}

/// [.., C] in `dtype` (bf16 or f32), C ≤ 16384.
pub fn dequantise(x: Fp8, dtype: DType) -> Result<CudaStorage> {
    const NAME: &str = "fp8 dequantise";
    let context = Context::of(&x.data.0.device)?;
    if x.data.0.dtype() != DType::F8E4M3 {
        candle_core::bail!("fp8 rows must be F8E4M3, not {:?}", x.data.0.dtype());
    }
    let rows = Matrix { dtype, ..Matrix::of(x.data, "fp8 rows")? };
    rows.fit_registers(NAME)?;
    let data = contiguous(x.data, DType::F8E4M3, rows.elements(), "fp8 rows")?;
    let scale = contiguous(x.scale, DType::F32, rows.count(), "the scale of fp8 rows")?;
    let y = uninitialised(&context.device, rows.elements(), dtype)?;
    if rows.elements() > 0 {
        let vector = rows.width.is_multiple_of(8) && (data as usize).is_multiple_of(8);
        // SAFETY: data, scale and y have the sizes just checked.
        queued(unsafe { kernels::atelier_fp8_dequantise(rows.shape(vector)?, data, scale.cast(), base(&y), context.stream()) }, NAME)?;
    }
    Ok(y)
}
