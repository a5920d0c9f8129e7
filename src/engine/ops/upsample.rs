//! Twice the size by repeating pixels. For inference: it has no gradient.

use super::storage::{self, by_rows, output};
use crate::Result;
use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

/// Nearest-neighbour ×2. x: [B, C, H, W] → [B, C, 2·H, 2·W].
pub fn upsample(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if super::gpu::holds(x) {
        return Ok(super::gpu::upsample(x)?);
    }
    if !storage::on_cpu(&[x]) {
        return Ok(super::plain::upsample(x)?);
    }
    Ok(x.contiguous()?.apply_op1_no_bwd(&Upsample)?)
}

struct Upsample;

impl CustomOp1 for Upsample {
    fn name(&self) -> &'static str {
        "upsample"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (b, c, h, w) = layout.shape().dims4()?;
        let x = storage::slice(x, layout)?;
        // A row of the picture becomes two rows, side by side in memory.
        let y = output(4 * x.len(), |y| by_rows(y, 4 * w, |first, y| double(&x[first * w..], w, y)));
        Ok((CpuStorage::F32(y), (b, c, 2 * h, 2 * w).into()))
    }
}

fn double(x: &[f32], width: usize, y: &mut [f32]) {
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(4 * width)) {
        let (upper, lower) = y.split_at_mut(2 * width);
        for (pair, &x) in upper.as_chunks_mut::<2>().0.iter_mut().zip(x) {
            *pair = [x, x];
        }
        lower.copy_from_slice(upper);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{plain, testing::*};

    #[test]
    fn agrees_with_plain() {
        for (seed, shape) in [(1, 1, 1, 1), (3, 2, 5, 7), (1, 16, 40, 33)].into_iter().enumerate() {
            let x = tensor(seed as u64, shape);
            assert_close("upsample", &upsample(&x).unwrap(), &plain::upsample(&x).unwrap(), 0.0);
        }
    }
}
