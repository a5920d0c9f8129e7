//! Convolution as products, a band of rows at a time. For inference: it has no gradient.

#[cfg(target_arch = "x86_64")]
use super::{amx, conv_lines, conv_tiles};
use super::{
    linear::is_bf16,
    matrix::{Matrix, MatrixMut, Write, product_rows},
    storage::{self, output},
    unit::Unit,
};
use crate::Result;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// A frozen kernel with its bias, held as the products want it.
#[derive(Clone)]
pub struct ConvWeight(Arc<Held>);

struct Held {
    outputs: usize,
    inputs: usize,
    kernel: usize,
    bias: Vec<f32>,
    form: Form,
}

enum Form {
    #[cfg(target_arch = "x86_64")]
    Tiles(amx::Right),
    /// [out, in·k·k], for lines of pixels.
    #[cfg(target_arch = "x86_64")]
    Lines(Vec<f32>),
    /// [out, in·k·k]
    Rows(Vec<f32>),
    /// In bf16 on a GPU.
    #[cfg(feature = "cuda")]
    Gpu(super::gpu::ConvKernel),
    /// Weight and bias as they were given, on a device whose own convolution has to do.
    Tensor(Tensor, Tensor),
}

impl ConvWeight {
    /// weight: [out, in, k, k]; bias: [out].
    pub fn new(weight: &Tensor, bias: &Tensor) -> Result<Self> {
        Self::for_unit(Unit::best(), weight, bias)
    }

    fn for_unit(unit: Unit, weight: &Tensor, bias: &Tensor) -> Result<Self> {
        let (outputs, inputs, kernel, _) = weight.dims4()?;
        let (bias, form) = if weight.device().is_cpu() {
            let form = Self::packed(unit, &weight.to_dtype(DType::F32)?.contiguous()?)?;
            (bias.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?, form)
        } else {
            (Vec::new(), Self::on_device(weight, bias)?)
        };
        Ok(Self(Arc::new(Held { outputs, inputs, kernel, bias, form })))
    }

    fn on_device(weight: &Tensor, bias: &Tensor) -> Result<Form> {
        #[cfg(feature = "cuda")]
        if super::gpu::holds(weight) && weight.dtype() == DType::BF16 {
            return Ok(Form::Gpu(super::gpu::ConvKernel::new(weight, bias)?));
        }
        Ok(Form::Tensor(weight.contiguous()?, bias.contiguous()?))
    }

    fn packed(unit: Unit, weight: &Tensor) -> Result<Form> {
        match unit {
            #[cfg(target_arch = "x86_64")]
            Unit::Amx => {
                let (outputs, inputs, kernel, _) = weight.dims4()?;
                let pack = |data: &[f32]| conv_tiles::pack(data, outputs, inputs, kernel, is_bf16(data));
                Ok(Form::Tiles(storage::with_slice(weight, pack)?))
            }
            #[cfg(target_arch = "x86_64")]
            Unit::Avx512 => Ok(Form::Lines(weight.flatten_all()?.to_vec1()?)),
            Unit::Portable => Ok(Form::Rows(weight.flatten_all()?.to_vec1()?)),
        }
    }
}

/// The picture's side of a convolution: sizes, stride and the zeros before and after, on both axes.
#[derive(Clone, Copy)]
pub(super) struct Geometry {
    pub inputs: usize,
    pub kernel: usize,
    pub stride: usize,
    pub before: usize,
    pub size: (usize, usize),
    pub out_size: (usize, usize),
}

/// Cross-correlation. x: [B, in, H, W]; `padding`: zeros before and after, on both axes.
pub fn conv2d(x: &Tensor, weight: &ConvWeight, stride: usize, padding: (usize, usize)) -> Result<Tensor> {
    match &weight.0.form {
        #[cfg(feature = "cuda")]
        Form::Gpu(kernel) => Ok(super::gpu::conv2d(x, kernel, stride, padding, None)?),
        Form::Tensor(weight, bias) => Ok(super::plain::conv2d(&x.contiguous()?, weight, bias, stride, padding)?),
        _ => Ok(x.to_dtype(DType::F32)?.contiguous()?.apply_op1_no_bwd(&Conv2d { weight: weight.0.clone(), stride, padding })?),
    }
}

/// residual + convolution of stride 1. residual: [B, out, H', W']
pub fn add_conv2d(residual: &Tensor, x: &Tensor, weight: &ConvWeight, padding: usize) -> Result<Tensor> {
    let padding = (padding, padding);
    #[cfg(feature = "cuda")]
    if let Form::Gpu(kernel) = &weight.0.form {
        return Ok(super::gpu::conv2d(x, kernel, 1, padding, Some(residual))?);
    }
    Ok((residual + conv2d(x, weight, 1, padding)?)?)
}

struct Conv2d {
    weight: Arc<Held>,
    stride: usize,
    padding: (usize, usize),
}

impl CustomOp1 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let Held { outputs, inputs, kernel, .. } = *self.weight;
        let (b, c, h, w) = layout.shape().dims4()?;
        let padded = |side: usize| side + self.padding.0 + self.padding.1;
        if c != inputs || padded(h) < kernel || padded(w) < kernel || self.stride == 0 {
            candle_core::bail!("a convolution of {inputs} channels and {kernel} × {kernel} was given {:?}", layout.shape());
        }
        let out_size @ (rows, columns) = ((padded(h) - kernel) / self.stride + 1, (padded(w) - kernel) / self.stride + 1);
        let geometry = Geometry { inputs, kernel, stride: self.stride, before: self.padding.0, size: (h, w), out_size };
        let x = storage::slice(x, layout)?;
        let y = output(b * outputs * rows * columns, |y| {
            for (x, y) in x.chunks_exact(c * h * w).zip(y.chunks_exact_mut(outputs * rows * columns)) {
                self.picture(x, geometry, MatrixMut::new(y, outputs, rows * columns));
            }
        });
        Ok((CpuStorage::F32(y), (b, outputs, rows, columns).into()))
    }
}

impl Conv2d {
    /// x: [in, H·W] → out: [out, H'·W']
    fn picture(&self, x: &[f32], geometry: Geometry, out: MatrixMut) {
        let (outputs, columns) = (self.weight.outputs, geometry.out_size.1);
        let bands = out.blocks(outputs, geometry.band() * columns);
        bands.into_par_iter().for_each(|(_, start, band)| match &self.weight.form {
            #[cfg(target_arch = "x86_64")]
            Form::Tiles(right) => conv_tiles::band(x, geometry, right, &self.weight.bias, start / columns, band),
            #[cfg(target_arch = "x86_64")]
            Form::Lines(weight) if geometry.stride == 1 => conv_lines::band(x, geometry, weight, &self.weight.bias, start / columns, band),
            #[cfg(target_arch = "x86_64")]
            Form::Lines(weight) => rows(x, geometry, weight, &self.weight.bias, start / columns, band),
            Form::Rows(weight) => rows(x, geometry, weight, &self.weight.bias, start / columns, band),
            #[cfg(feature = "cuda")]
            Form::Gpu(_) => unreachable!("its pictures are on a GPU"),
            Form::Tensor(..) => unreachable!("the caller uses the device's own convolution"),
        });
    }
}

impl Geometry {
    /// Output rows in a band: its input should stay in a core's second cache, and every core should have some.
    fn band(&self) -> usize {
        const VALUES: usize = 1 << 18;
        let fitting = VALUES / (self.inputs.next_multiple_of(32) * self.size.1 * self.stride).max(1);
        fitting.min(self.out_size.0.div_ceil(2 * rayon::current_num_threads())).max(1)
    }

    /// Row or column of the picture under an output's tap; `None` in the padding.
    pub fn tapped(&self, out: usize, tap: usize, side: usize) -> Option<usize> {
        (out * self.stride + tap).checked_sub(self.before).filter(|&at| at < side)
    }
}

/// Output rows `first..` on any CPU: every tap of every channel is a row of the right operand.
fn rows(x: &[f32], geometry: Geometry, weight: &[f32], bias: &[f32], first: usize, mut out: MatrixMut) {
    let Geometry { inputs, kernel, size: (h, w), out_size: (_, columns), .. } = geometry;
    let (pixels, inner) = (out.columns(), inputs * kernel * kernel);
    let mut taps = vec![0.0; inner * pixels];
    for (index, line) in taps.chunks_exact_mut(columns).enumerate() {
        let (tap, row) = (index / (pixels / columns), first + index % (pixels / columns));
        let (channel, down, across) = (tap / (kernel * kernel), tap / kernel % kernel, tap % kernel);
        let Some(y) = geometry.tapped(row, down, h) else { continue };
        let source = &x[(channel * h + y) * w..][..w];
        for (column, value) in line.iter_mut().enumerate() {
            *value = geometry.tapped(column, across, w).map_or(0.0, |x| source[x]);
        }
    }
    for (channel, &bias) in bias.iter().enumerate() {
        out.row_mut(channel).fill(bias);
    }
    product_rows(Matrix::new(weight, bias.len(), inner), &Matrix::new(&taps, inner, pixels), out, Write::Add);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{plain, testing::*};

    #[test]
    fn agrees_with_plain_on_every_unit() {
        let cases = [
            ((1, 3, 9, 7), 32, 3, 1, (1, 1)),
            ((2, 16, 32, 32), 48, 3, 1, (1, 1)),
            ((1, 33, 10, 45), 5, 1, 1, (0, 0)),
            ((1, 40, 18, 33), 32, 3, 2, (0, 1)),
            ((3, 32, 1, 1), 3, 3, 1, (1, 1)),
            ((1, 64, 40, 70), 33, 3, 1, (1, 1)),
        ];
        for (seed, (shape, outputs, kernel, stride, padding)) in cases.into_iter().enumerate() {
            let seed = seed as u64 * 10;
            let (x, weight, bias) = (tensor(seed, shape), tensor(seed + 1, (outputs, shape.1, kernel, kernel)), tensor(seed + 2, outputs));
            for weight in [weight.clone(), weight.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap()] {
                let expected = plain::conv2d(&x, &weight, &bias, stride, padding).unwrap();
                for unit in Unit::all() {
                    let packed = ConvWeight::for_unit(unit, &weight, &bias).unwrap();
                    let ours = conv2d(&x, &packed, stride, padding).unwrap();
                    assert_close(&format!("conv2d {shape:?} → {outputs}, {unit:?}"), &ours, &expected, 1e-5);
                }
            }
        }
    }

    #[test]
    fn refuses_other_channels() {
        let weight = ConvWeight::new(&tensor(0, (4, 8, 3, 3)), &tensor(1, 4)).unwrap();
        let error = conv2d(&tensor(2, (1, 7, 5, 5)), &weight, 1, (1, 1)).unwrap_err().to_string();
        assert!(error.contains("8 channels"), "{error}");
    }
}
