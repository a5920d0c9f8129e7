//! Twice the size by repeating pixels, and the convolution that follows. For inference: they have no gradient.

use super::conv::{ConvWeight, conv2d};
use super::storage::{self, by_rows, output};
use crate::Result;
use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

/// The frozen 3×3 kernel of a convolution that reads an enlarged picture.
pub struct EnlargingWeight(Form);

enum Form {
    /// In bf16 on a GPU: the convolutions of the small picture that make the even and odd rows and columns.
    #[cfg(feature = "cuda")]
    Phases(super::gpu::ConvKernel),
    Whole(ConvWeight),
}

impl EnlargingWeight {
    /// weight: [out, in, 3, 3]; bias: [out].
    pub fn new(weight: &Tensor, bias: &Tensor) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if let Some(phases) = super::gpu::phases(weight, bias)? {
            return Ok(Self(Form::Phases(phases)));
        }
        Ok(Self(Form::Whole(ConvWeight::new(weight, bias)?)))
    }
}

/// [`upsample`], then a convolution that keeps the size. x: [B, in, H, W] → [B, out, 2·H, 2·W].
pub fn enlarging_conv2d(x: &Tensor, weight: &EnlargingWeight) -> Result<Tensor> {
    match &weight.0 {
        #[cfg(feature = "cuda")]
        Form::Phases(phases) => Ok(super::gpu::enlarging_conv2d(x, phases)?),
        Form::Whole(weight) => conv2d(&upsample(x)?, weight, 1, (1, 1)),
    }
}

/// Nearest-neighbour ×2. x: [B, C, H, W] → [B, C, 2·H, 2·W].
pub fn upsample(x: &Tensor) -> Result<Tensor> {
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

    #[test]
    fn the_convolution_reads_the_enlarged_picture() {
        let (x, weight, bias) = (tensor(0, (2, 5, 4, 7)), tensor(1, (6, 5, 3, 3)), tensor(2, 6));
        let ours = enlarging_conv2d(&x, &EnlargingWeight::new(&weight, &bias).unwrap()).unwrap();
        let expected = plain::conv2d(&plain::upsample(&x).unwrap(), &weight, &bias, 1, (1, 1)).unwrap();
        assert_close("enlarging conv2d", &ours, &expected, 1e-5);
    }
}
