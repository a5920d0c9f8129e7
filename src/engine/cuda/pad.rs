//! Small matrices (those of LoRA pairs) in the type and the size that products are fast at.

use super::Arg;
use super::context::Context;
use super::kernels::{self, Pad, code, queued};
use super::storage::{Matrix, base, uninitialised};
use candle_core::{CudaStorage, DType, Result};

/// x: rows [r, c], bf16 or f32 → [rows, columns] in `dtype`, bf16 or f32, with zeros in the rows and columns that x has not.
pub fn padded(x: Arg, (rows, columns): (usize, usize), dtype: DType) -> Result<CudaStorage> {
    let context = Context::of(&x.0.device)?;
    let x = Matrix::of(x, "x")?;
    if x.batch != 1 || x.tokens > rows || x.width > columns {
        candle_core::bail!("[{}, {}, {}] does not fit into [{rows}, {columns}]", x.batch, x.tokens, x.width);
    }
    let to = uninitialised(&context.device, rows * columns, dtype)?;
    let pad = Pad {
        rows: rows as i32,
        columns: columns as i32,
        from_rows: x.tokens as i32,
        from_columns: x.width as i32,
        from_dtype: code(x.dtype)?,
        to_dtype: code(dtype)?,
        stride: x.view.row_stride,
    };
    if rows * columns > 0 {
        // SAFETY: x lies within its storage, and `to` holds rows·columns.
        queued(unsafe { kernels::atelier_pad(pad, x.view.data, base(&to), context.stream()) }, "pad")?;
    }
    Ok(to)
}
