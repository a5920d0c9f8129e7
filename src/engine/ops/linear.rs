//! Products with frozen weights: forward and dX, never dW.

use super::activation::{Activation, Reads};
use super::elementwise::gelu_in_place;
#[cfg(feature = "cuda")]
use super::gpu;
use super::matrix::{Matrix, MatrixMut, Right, Write, product, product_then};
use super::storage;
use crate::{
    Precision, Result,
    quant::{Fp8Rows, Nf4, nf4},
};
use candle_core::{D, DType, Tensor, bail};
use std::sync::{Arc, OnceLock};

/// A frozen weight, held as the product wants it.
#[derive(Clone)]
pub struct Weight(Arc<Held>);

struct Held {
    /// [out, in]
    shape: (usize, usize),
    form: Form,
}

enum Form {
    /// Wᵀ for the forward product and, once a gradient asks for it, W for the backward one.
    Packed { forward: Right, backward: OnceLock<Right> },
    #[cfg(feature = "cuda")]
    Gpu(gpu::Weight),
}

impl Weight {
    /// weight: [out, in], bf16, f16 or f32, on the device that will multiply. In `precision`, or in bf16 where fp8 or NF4 do not take its
    /// shape: a product in fp8 wants multiples of 16, NF4 whole blocks. On the CPU these are the values that come back from the precision.
    pub fn new(weight: &Tensor, precision: Precision) -> Result<Self> {
        let shape = weight.dims2()?;
        let precision = match precision {
            Precision::Fp8 if !shape.0.is_multiple_of(16) || !shape.1.is_multiple_of(16) => Precision::Bf16,
            Precision::Nf4 if !(shape.0 * shape.1).is_multiple_of(nf4::BLOCK) => Precision::Bf16,
            other => other,
        };
        #[cfg(feature = "cuda")]
        if gpu::holds(weight) {
            return Ok(Self(Arc::new(Held { shape, form: Form::Gpu(gpu::Weight::new(weight, precision)?) })));
        }
        let weight = weight.to_dtype(DType::F32)?.contiguous()?;
        let forward = storage::with_slice(&weight, |data| match precision {
            Precision::F32 => pack(data, shape),
            Precision::Bf16 => pack(&data.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect::<Vec<_>>(), shape),
            Precision::Fp8 => pack(&Fp8Rows::quantise(data, shape.1).dequantise(), shape),
            Precision::Nf4 => pack(&Nf4::quantise(data).dequantise(), shape),
        })?;
        Ok(Self(Arc::new(Held { shape, form: Form::Packed { forward, backward: OnceLock::new() } })))
    }

    /// weight: [out, in] on the CPU, where it stays; a GPU that multiplies with it is sent a copy each time, in bf16.
    #[cfg(feature = "cuda")]
    pub fn on_host(weight: &Tensor, device: &candle_core::Device) -> Result<Self> {
        let form = Form::Gpu(gpu::Weight::Host(gpu::Host::new(weight, device)?));
        Ok(Self(Arc::new(Held { shape: weight.dims2()?, form })))
    }

    pub fn in_features(&self) -> usize {
        self.0.shape.1
    }

    pub fn out_features(&self) -> usize {
        self.0.shape.0
    }

    /// What its products read.
    pub fn reads(&self) -> Reads {
        match &self.0.form {
            #[cfg(feature = "cuda")]
            Form::Gpu(gpu::Weight::Fp8(_)) => Reads::FP8,
            _ => Reads::VALUES,
        }
    }

    /// Wᵀ, on the CPU.
    fn forward(&self) -> candle_core::Result<&Right> {
        match &self.0.form {
            Form::Packed { forward, .. } => Ok(forward),
            #[cfg(feature = "cuda")]
            Form::Gpu(_) => bail!("a weight on a GPU was given values on the CPU"),
        }
    }

    /// W, on the CPU.
    fn backward(&self) -> candle_core::Result<&Right> {
        match &self.0.form {
            Form::Packed { forward, backward } => Ok(backward.get_or_init(|| forward.transposed())),
            #[cfg(feature = "cuda")]
            Form::Gpu(_) => bail!("a weight on a GPU was given values on the CPU"),
        }
    }
}

fn pack(values: &[f32], (out_features, in_features): (usize, usize)) -> Right {
    Right::pack_as(Matrix::new(values, out_features, in_features).t(), is_bf16(values))
}

/// Whether every value survives bf16, as those of a bf16 checkpoint do.
pub(super) fn is_bf16(data: &[f32]) -> bool {
    data.iter().all(|x| x.to_bits() & 0xffff == 0)
}

/// Runs `first`, and then `second` on what it returns, which multiplies with the same weights: what a GPU makes of an NF4 weight for the one
/// stays for the other. (On the CPU nothing has to be made.)
pub fn keeping_plain<T, U>(first: impl FnOnce() -> T, second: impl FnOnce(T) -> U) -> U {
    #[cfg(feature = "cuda")]
    return gpu::keeping_plain(first, second);
    #[cfg(not(feature = "cuda"))]
    second(first())
}

/// x·Wᵀ + b. x: [.., in] → [.., out]
pub fn linear(x: &Activation, weight: &Weight, bias: Option<&Tensor>) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Form::Gpu(form) = &weight.0.form {
        return Ok(gpu::linear(x, form, weight.out_features(), bias, false)?);
    }
    let bias = values(bias)?;
    Ok(times(&x.values()?.to_dtype(DType::F32)?, weight.forward()?, write(&bias), |_| {})?)
}

/// gelu(x·Wᵀ + b), for when nobody asks what went into the GELU. x: [.., in] → [.., out]
pub fn linear_gelu(x: &Activation, weight: &Weight, bias: Option<&Tensor>) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Form::Gpu(form) = &weight.0.form {
        return Ok(gpu::linear(x, form, weight.out_features(), bias, true)?);
    }
    let bias = values(bias)?;
    Ok(times(x.values()?, weight.forward()?, write(&bias), gelu_in_place)?)
}

/// x·Wᵀ + b into `out`, [.., out], which may be some tokens of a larger tensor.
pub fn linear_into(out: &Tensor, x: &Activation, weight: &Weight, bias: Option<&Tensor>) -> Result<()> {
    #[cfg(feature = "cuda")]
    if let Form::Gpu(form) = &weight.0.form {
        return Ok(gpu::linear_into(out, x, form, bias, false)?);
    }
    let (x, bias) = (x.values()?, values(bias)?);
    if storage::has_rows(out) {
        return Ok(times_into(out, x, weight.forward()?, write(&bias))?);
    }
    for picture in 0..out.dim(0)? {
        times_into(&out.narrow(0, picture, 1)?, &x.narrow(0, picture, 1)?, weight.forward()?, write(&bias))?;
    }
    Ok(())
}

/// out += x·Wᵀ. x: [.., in]; out: [.., out]
pub fn add_linear(out: &Tensor, x: &Activation, weight: &Weight) -> Result<()> {
    #[cfg(feature = "cuda")]
    if let Form::Gpu(form) = &weight.0.form {
        return Ok(gpu::linear_into(out, x, form, None, true)?);
    }
    Ok(times_into(out, x.values()?, weight.forward()?, Write::Add)?)
}

/// dX = g·W, added to `sum` in its own memory if there is one. g: [.., out] → [.., in]
pub fn linear_gradient(g: &Tensor, weight: &Weight, sum: Option<Tensor>) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Form::Gpu(form) = &weight.0.form {
        return Ok(gpu::linear_gradient(g, form, weight.in_features(), sum)?);
    }
    let right = weight.backward()?;
    let Some(sum) = sum else { return Ok(times(g, right, Write::Replace, |_| {})?) };
    times_into(&sum, g, right, Write::Add)?;
    Ok(sum)
}

fn values(bias: Option<&Tensor>) -> candle_core::Result<Option<Vec<f32>>> {
    bias.map(|bias| bias.to_dtype(DType::F32)?.flatten_all()?.to_vec1()).transpose()
}

fn write(bias: &Option<Vec<f32>>) -> Write<'_> {
    bias.as_deref().map_or(Write::Replace, Write::From)
}

/// x·right, and then `finish` on every row. x: [.., in]
fn times(x: &Tensor, right: &Right, write: Write, finish: impl Fn(&mut [f32]) + Sync) -> candle_core::Result<Tensor> {
    let (x, columns) = (storage::rows(x)?, right.columns());
    check(&x, right, columns, write)?;
    let shape = storage::with_last(x.shape(), columns);
    storage::with_matrices([&x], |[x]| {
        storage::filled(shape, |y| product_then(x, right, MatrixMut::new(y, x.rows, columns), write, finish))
    })?
}

fn times_into(out: &Tensor, x: &Tensor, right: &Right, write: Write) -> candle_core::Result<()> {
    let x = storage::rows(x)?;
    check(&x, right, out.dim(D::Minus1)?, write)?;
    storage::with_matrices([&x], |[x]| {
        storage::change_matrix(out, |out| {
            if out.rows() != x.rows {
                bail!("a product of {} rows cannot be written into {}", x.rows, out.rows());
            }
            product(x, right, out, write);
            Ok(())
        })
    })?
}

fn check(x: &Tensor, right: &Right, columns: usize, write: Write) -> candle_core::Result<()> {
    let inner = x.dim(D::Minus1)?;
    if inner != right.rows() || columns != right.columns() {
        bail!("a linear layer of {} → {} features was given {inner} → {columns}", right.rows(), right.columns());
    }
    match write {
        Write::From(bias) if bias.len() != columns => bail!("a linear layer of {inner} → {columns} features has {} biases", bias.len()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{plain, testing::*};

    const SHAPES: [(&[usize], usize, usize); 4] = [(&[1], 48, 250), (&[3, 7], 250, 48), (&[1, 129], 64, 33), (&[2, 5, 8], 24, 128)];

    fn wide(rows: &[usize], last: usize) -> Vec<usize> {
        rows.iter().copied().chain([last]).collect()
    }

    #[test]
    fn agrees_with_plain_for_every_kind_of_checkpoint() {
        for (seed, (rows, inner, columns)) in SHAPES.into_iter().enumerate() {
            for dtype in [DType::BF16, DType::F16, DType::F32] {
                let weight = tensor(seed as u64 + 10, (columns, inner)).to_dtype(dtype).unwrap();
                let (packed, plain_weight) = (Weight::new(&weight, Precision::F32).unwrap(), weight.to_dtype(DType::F32).unwrap());
                for bias in [None, Some(tensor(seed as u64 + 20, columns))] {
                    compare(
                        &format!("linear {rows:?} {inner} {columns} {dtype:?}"),
                        &[tensor(seed as u64, wide(rows, inner))],
                        |x| linear(&(&x[0]).into(), &packed, bias.as_ref()).unwrap(),
                        |_, g| vec![linear_gradient(g, &packed, None).unwrap()],
                        |x| plain::linear(&x[0], &plain_weight, bias.as_ref()).unwrap(),
                    );
                }
            }
        }
    }

    /// What comes back from the precision is what is multiplied with; shapes that it does not take stay bf16.
    #[test]
    fn a_precision_gives_its_own_values() {
        for (out_features, in_features) in [(48, 64), (16, 32), (24, 50)] {
            let (weight, one) =
                (tensor(1, (out_features, in_features)), Tensor::eye(in_features, DType::F32, &candle_core::Device::Cpu).unwrap());
            let flat = weight.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let rounded: Vec<f32> = flat.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect();
            let whole = out_features % 16 == 0 && in_features % 16 == 0;
            let fp8 = if whole { Fp8Rows::quantise(&flat, in_features).dequantise() } else { rounded.clone() };
            let nf4 = if flat.len() % nf4::BLOCK == 0 { Nf4::quantise(&flat).dequantise() } else { rounded.clone() };
            for (precision, expected) in [(Precision::F32, flat), (Precision::Bf16, rounded), (Precision::Fp8, fp8), (Precision::Nf4, nf4)]
            {
                let back = linear(&(&one).into(), &Weight::new(&weight, precision).unwrap(), None).unwrap();
                let expected = Tensor::from_vec(expected, (out_features, in_features), &candle_core::Device::Cpu).unwrap();
                assert_close(precision.name(), &back.t().unwrap(), &expected, 1e-6);
            }
        }
    }

    #[test]
    fn with_gelu_it_is_the_two_in_turn() {
        for (seed, (rows, inner, columns)) in SHAPES.into_iter().enumerate() {
            let (x, weight, bias) = (tensor(seed as u64, wide(rows, inner)), tensor(7, (columns, inner)), tensor(8, columns));
            let ours = linear_gelu(&(&x).into(), &Weight::new(&weight, Precision::F32).unwrap(), Some(&bias)).unwrap();
            let expected = plain::gelu(&plain::linear(&x, &weight, Some(&bias)).unwrap()).unwrap();
            assert_close("linear_gelu", &ours, &expected, 2e-5);
        }
    }

    /// Some tokens of two pictures: their rows are not evenly spaced.
    #[test]
    fn writes_and_reads_stretches_of_tokens() {
        let (x, weight, bias) = (tensor(0, (2, 9, 24)), tensor(1, (40, 24)), tensor(2, 40));
        let packed = Weight::new(&weight, Precision::F32).unwrap();
        let joint = tensor(3, (2, 13, 40));
        let part = |x: &Tensor| x.narrow(1, 4, 9).unwrap();
        let (before, after) = (part(&joint).force_contiguous().unwrap(), plain::linear(&x, &weight, Some(&bias)).unwrap());
        let untouched = joint.narrow(1, 0, 4).unwrap().force_contiguous().unwrap();
        linear_into(&part(&joint), &(&x).into(), &packed, Some(&bias)).unwrap();
        assert_close("written", &part(&joint), &after, 2e-5);
        assert_close("beside", &joint.narrow(1, 0, 4).unwrap(), &untouched, 0.0);

        let g = linear_gradient(&part(&joint), &packed, None).unwrap();
        assert_close("read", &g, &plain::linear(&after, &weight.t().unwrap().contiguous().unwrap(), None).unwrap(), 2e-5);
        let sum = before.force_contiguous().unwrap();
        add_linear(&sum, &(&x).into(), &packed).unwrap();
        assert_close("added", &sum, &(before + plain::linear(&x, &weight, None).unwrap()).unwrap(), 2e-5);
        let twice = linear_gradient(&part(&joint), &packed, Some(g.force_contiguous().unwrap())).unwrap();
        assert_close("gradient added", &twice, &(g * 2.0).unwrap(), 2e-5);
    }

    #[test]
    fn refuses_another_width() {
        let weight = Weight::new(&tensor(0, (8, 16)), Precision::F32).unwrap();
        let error = linear(&tensor(1, (2, 15)).into(), &weight, None).unwrap_err().to_string();
        assert!(error.contains("16 → 8") && error.contains("15"), "{error}");
    }
}
