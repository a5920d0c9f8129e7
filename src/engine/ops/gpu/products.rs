//! Products with frozen weights and with the matrices of LoRA pairs.

use super::{Weight, lend, lend_mut};
use crate::{
    cuda::{
        self, Arg,
        fp8::{self, Fp8 as NativeFp8},
        gemm::{self, Epilogue},
    },
    ops::{Activation, activation::Fp8, storage::with_last},
};
use candle_core::{D, DType, Error, Result, Tensor};

/// gelu(x·Wᵀ + b) or without the GELU, in the type of x. x: [.., in] → [.., out]
pub fn linear(x: &Activation, weight: &Weight, out_features: usize, bias: Option<&Tensor>, gelu: bool) -> Result<Tensor> {
    let shape = with_last(x.shape(), out_features);
    if let Weight::Fp8(weight) = weight {
        let x = in_fp8(x)?;
        let product = |epilogue: Epilogue| lend_fp8(&x, weight, |x, weight| gemm::linear_fp8(x, weight, epilogue));
        return Ok(cuda::tensor(with_bias(bias, DType::BF16, |bias| product(Epilogue { bias, gelu, ..Epilogue::default() }))?, shape));
    }
    let (x, weight, dtype) = operands(x, weight)?;
    let product = |epilogue: Epilogue| lend([&x, &weight], |[x, weight]| gemm::linear(x, weight, epilogue));
    let y = with_bias(bias, x.dtype(), |bias| product(Epilogue { bias, gelu, ..Epilogue::default() }))?;
    cuda::tensor(y, shape).to_dtype(dtype)
}

/// x·Wᵀ + b into `out`, or added to it. x: [.., in]; out: [.., out] of x's type
pub fn linear_into(out: &Tensor, x: &Activation, weight: &Weight, bias: Option<&Tensor>, add: bool) -> Result<()> {
    if let Weight::Fp8(weight) = weight {
        let x = in_fp8(x)?;
        return with_bias(bias, DType::BF16, |bias| {
            let epilogue = Epilogue { bias, add, ..Epilogue::default() };
            lend_fp8(&x, weight, |x, weight| lend_mut(out, |out| gemm::linear_fp8_into(x, weight, epilogue, out)))
        });
    }
    let (x, weight, _) = operands(x, weight)?;
    with_bias(bias, x.dtype(), |bias| {
        let epilogue = Epilogue { bias, add, ..Epilogue::default() };
        lend([&x, &weight], |[x, weight]| lend_mut(out, |out| gemm::linear_into(x, weight, epilogue, out)))
    })
}

/// dX = g·W, added to `sum` if there is one. g: [.., out] → [.., in] of g's type
pub fn linear_gradient(g: &Tensor, weight: &Weight, in_features: usize, sum: Option<Tensor>) -> Result<Tensor> {
    let weight = weight.plain(g.dtype())?;
    if weight.dtype() == g.dtype()
        && let Some(sum) = sum
    {
        lend([g, &weight], |[g, weight]| lend_mut(&sum, |sum| gemm::input_gradient_into(g, weight, 1.0, true, sum)))?;
        return Ok(sum);
    }
    let dx = lend([&g.to_dtype(weight.dtype())?, &weight], |[g, weight]| gemm::input_gradient(g, weight, 1.0))?;
    let dx = cuda::tensor(dx, with_last(g.shape(), in_features)).to_dtype(g.dtype())?;
    sum.map_or(Ok(dx.clone()), |sum| sum + dx)
}

/// x·Mᵀ. x: [.., k]; m: [n, k] → [.., n]
pub fn product(x: &Tensor, m: &Tensor) -> Result<Tensor> {
    let y = lend([x, m], |[x, m]| gemm::linear(x, m, Epilogue::default()))?;
    Ok(cuda::tensor(y, with_last(x.shape(), m.dim(0)?)))
}

/// y += factor·x·Mᵀ. y: [.., n]; x: [.., k]; m: [n, k]
pub fn add_product(y: &Tensor, x: &Tensor, m: &Tensor, factor: f64) -> Result<()> {
    let epilogue = Epilogue { alpha: factor as f32, add: true, ..Epilogue::default() };
    lend([x, m], |[x, m]| lend_mut(y, |y| gemm::linear_into(x, m, epilogue, y)))
}

/// y += t with each of its columns times its gain, as products with diagonal blocks: DoRA alone asks for it, and they cost a tenth of its
/// layer's own product. y, t: [.., n]; gain: [n]
pub fn add_columns(y: &Tensor, t: &Tensor, gain: &Tensor) -> Result<()> {
    const BLOCK: usize = 256;
    let columns = t.dim(D::Minus1)?;
    for first in (0..columns).step_by(BLOCK) {
        let count = BLOCK.min(columns - first);
        let diagonal = Tensor::eye(count, DType::F32, t.device())?.broadcast_mul(&gain.narrow(0, first, count)?)?.to_dtype(t.dtype())?;
        add_product(&y.narrow(D::Minus1, first, count)?, &t.narrow(D::Minus1, first, count)?.contiguous()?, &diagonal, 1.0)?;
    }
    Ok(())
}

/// dx = factor·g·M. dx: [.., k]; g: [.., n]; m: [n, k]
pub fn product_gradient_into(dx: &Tensor, g: &Tensor, m: &Tensor, factor: f64) -> Result<()> {
    lend([g, m], |[g, m]| lend_mut(dx, |dx| gemm::input_gradient_into(g, m, factor as f32, false, dx)))
}

/// dx += g·M. dx: [.., k]; g: [.., n]; m: [n, k]
pub fn add_product_gradient(dx: &Tensor, g: &Tensor, m: &Tensor) -> Result<()> {
    lend([g, m], |[g, m]| lend_mut(dx, |dx| gemm::input_gradient_into(g, m, 1.0, true, dx)))
}

/// dM += factor·gᵀ·x over all rows. dm: [n, k] f32; g: [.., n]; x: [.., k]
pub fn add_matrix_gradient(dm: &Tensor, g: &Tensor, x: &Tensor, factor: f64) -> Result<()> {
    lend([g, x], |[g, x]| lend_mut(dm, |dm| gemm::weight_gradient_into(g, x, factor as f32, true, dm)))
}

/// The matrix in `dtype`, with zeros to a multiple of `grain` along `dim`.
pub fn padded(matrix: &Tensor, dim: usize, grain: usize, dtype: DType) -> Result<Tensor> {
    let mut shape = matrix.dims().to_vec();
    shape[dim] = shape[dim].next_multiple_of(grain);
    if shape == matrix.dims() {
        return matrix.to_dtype(dtype);
    }
    let shape = (shape[0], shape[1]);
    Ok(cuda::tensor(lend([matrix], |[matrix]| cuda::pad::padded(matrix, shape, dtype))?, shape))
}

/// Values and weight in one type: the weight's, unless it is made for this product; and the type of the values.
fn operands(x: &Activation, weight: &Weight) -> Result<(Tensor, Tensor, DType)> {
    let values = x.values().map_err(Error::wrap)?;
    let weight = weight.plain(values.dtype())?;
    Ok((values.to_dtype(weight.dtype())?, weight, values.dtype()))
}

fn with_bias<T>(bias: Option<&Tensor>, dtype: DType, work: impl FnOnce(Option<Arg>) -> Result<T>) -> Result<T> {
    match bias {
        None => work(None),
        Some(bias) => lend([&bias.to_dtype(dtype)?], |[bias]| work(Some(bias))),
    }
}

/// As it was made, or made now.
fn in_fp8(x: &Activation) -> Result<Fp8> {
    if let Some(fp8) = x.fp8() {
        return Ok(fp8.clone());
    }
    let values = x.values().map_err(Error::wrap)?;
    let rows = lend([values], |[values]| fp8::quantise(values))?;
    let count = values.elem_count() / values.dim(D::Minus1)?.max(1);
    Ok(Fp8 { data: cuda::tensor(rows.data, values.shape()), scale: cuda::tensor(rows.scale, count) })
}

fn lend_fp8<T>(x: &Fp8, weight: &Fp8, work: impl FnOnce(NativeFp8, NativeFp8) -> Result<T>) -> Result<T> {
    lend([&x.data, &x.scale, &weight.data, &weight.scale], |[x, x_scale, weight, weight_scale]| {
        work(NativeFp8 { data: x, scale: x_scale }, NativeFp8 { data: weight, scale: weight_scale })
    })
}
