//! Products with frozen weights: forward and dX, never dW.

use super::elementwise::gelu_in_place;
use super::matrix::{Matrix, MatrixMut, Right, Write, product, product_then};
use super::storage;
use crate::Result;
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
    /// f32, on a device that has its own products.
    Tensor(Tensor),
}

impl Weight {
    /// weight: [out, in], bf16, f16 or f32.
    pub fn new(weight: &Tensor) -> Result<Self> {
        let shape = weight.dims2()?;
        let weight = weight.to_dtype(DType::F32)?.contiguous()?;
        if !weight.device().is_cpu() {
            return Ok(Self(Arc::new(Held { shape, form: Form::Tensor(weight) })));
        }
        let forward = storage::with_slice(&weight, |data| Right::pack_as(Matrix::new(data, shape.0, shape.1).t(), is_bf16(data)))?;
        Ok(Self(Arc::new(Held { shape, form: Form::Packed { forward, backward: OnceLock::new() } })))
    }

    pub fn in_features(&self) -> usize {
        self.0.shape.1
    }

    pub fn out_features(&self) -> usize {
        self.0.shape.0
    }

    /// What multiplies x, or g in the backward direction, on the CPU.
    fn packed(&self, direction: Direction) -> candle_core::Result<&Right> {
        match (&self.0.form, direction) {
            (Form::Packed { forward, .. }, Direction::Forward) => Ok(forward),
            (Form::Packed { forward, backward }, Direction::Backward) => Ok(backward.get_or_init(|| forward.transposed())),
            (Form::Tensor(_), _) => bail!("a weight on a GPU was given values on the CPU"),
        }
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Forward,
    Backward,
}

/// Whether every value survives bf16, as those of a bf16 checkpoint do.
pub(super) fn is_bf16(data: &[f32]) -> bool {
    data.iter().all(|x| x.to_bits() & 0xffff == 0)
}

/// x·Wᵀ + b. x: [.., in] → [.., out]
pub fn linear(x: &Tensor, weight: &Weight, bias: Option<&Tensor>) -> Result<Tensor> {
    if let Form::Tensor(weight) = &weight.0.form {
        return Ok(super::plain::linear(x, weight, bias)?);
    }
    let bias = values(bias)?;
    Ok(times(&x.to_dtype(DType::F32)?, weight.packed(Direction::Forward)?, write(&bias), |_| {})?)
}

/// gelu(x·Wᵀ + b), for when nobody asks what went into the GELU. x: [.., in] → [.., out]
pub fn linear_gelu(x: &Tensor, weight: &Weight, bias: Option<&Tensor>) -> Result<Tensor> {
    if !storage::on_cpu(&[x]) {
        return super::gelu(&linear(x, weight, bias)?);
    }
    let bias = values(bias)?;
    Ok(times(x, weight.packed(Direction::Forward)?, write(&bias), gelu_in_place)?)
}

/// x·Wᵀ + b into `out`, [.., out], which may be some tokens of a larger tensor.
pub fn linear_into(out: &Tensor, x: &Tensor, weight: &Weight, bias: Option<&Tensor>) -> Result<()> {
    if !storage::has_rows(out) {
        return (0..out.dim(0)?).try_for_each(|i| linear_into(&out.narrow(0, i, 1)?, &x.narrow(0, i, 1)?, weight, bias));
    }
    let bias = values(bias)?;
    Ok(times_into(out, x, weight.packed(Direction::Forward)?, write(&bias))?)
}

/// out += x·Wᵀ. x: [.., in]; out: [.., out]
pub fn add_linear(out: &Tensor, x: &Tensor, weight: &Weight) -> Result<()> {
    Ok(times_into(out, x, weight.packed(Direction::Forward)?, Write::Add)?)
}

/// dX = g·W, added to `sum` in its own memory if there is one. g: [.., out] → [.., in]
pub fn linear_gradient(g: &Tensor, weight: &Weight, sum: Option<Tensor>) -> Result<Tensor> {
    let right = weight.packed(Direction::Backward)?;
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
                let (packed, plain_weight) = (Weight::new(&weight).unwrap(), weight.to_dtype(DType::F32).unwrap());
                for bias in [None, Some(tensor(seed as u64 + 20, columns))] {
                    compare(
                        &format!("linear {rows:?} {inner} {columns} {dtype:?}"),
                        &[tensor(seed as u64, wide(rows, inner))],
                        |x| linear(&x[0], &packed, bias.as_ref()).unwrap(),
                        |_, g| vec![linear_gradient(g, &packed, None).unwrap()],
                        |x| plain::linear(&x[0], &plain_weight, bias.as_ref()).unwrap(),
                    );
                }
            }
        }
    }

    #[test]
    fn with_gelu_it_is_the_two_in_turn() {
        for (seed, (rows, inner, columns)) in SHAPES.into_iter().enumerate() {
            let (x, weight, bias) = (tensor(seed as u64, wide(rows, inner)), tensor(7, (columns, inner)), tensor(8, columns));
            let ours = linear_gelu(&x, &Weight::new(&weight).unwrap(), Some(&bias)).unwrap();
            let expected = plain::gelu(&plain::linear(&x, &weight, Some(&bias)).unwrap()).unwrap();
            assert_close("linear_gelu", &ours, &expected, 2e-5);
        }
    }

    /// Some tokens of two pictures: their rows are not evenly spaced.
    #[test]
    fn writes_and_reads_stretches_of_tokens() {
        let (x, weight, bias) = (tensor(0, (2, 9, 24)), tensor(1, (40, 24)), tensor(2, 40));
        let packed = Weight::new(&weight).unwrap();
        let joint = tensor(3, (2, 13, 40));
        let part = |x: &Tensor| x.narrow(1, 4, 9).unwrap();
        let (before, after) = (part(&joint).force_contiguous().unwrap(), plain::linear(&x, &weight, Some(&bias)).unwrap());
        let untouched = joint.narrow(1, 0, 4).unwrap().force_contiguous().unwrap();
        linear_into(&part(&joint), &x, &packed, Some(&bias)).unwrap();
        assert_close("written", &part(&joint), &after, 2e-5);
        assert_close("beside", &joint.narrow(1, 0, 4).unwrap(), &untouched, 0.0);

        let g = linear_gradient(&part(&joint), &packed, None).unwrap();
        assert_close("read", &g, &plain::linear(&after, &weight.t().unwrap().contiguous().unwrap(), None).unwrap(), 2e-5);
        let sum = before.force_contiguous().unwrap();
        add_linear(&sum, &x, &packed).unwrap();
        assert_close("added", &sum, &(before + plain::linear(&x, &weight, None).unwrap()).unwrap(), 2e-5);
        let twice = linear_gradient(&part(&joint), &packed, Some(g.force_contiguous().unwrap())).unwrap();
        assert_close("gradient added", &twice, &(g * 2.0).unwrap(), 2e-5);
    }

    #[test]
    fn refuses_another_width() {
        let weight = Weight::new(&tensor(0, (8, 16))).unwrap();
        let error = linear(&tensor(1, (2, 15)), &weight, None).unwrap_err().to_string();
        assert!(error.contains("16 → 8") && error.contains("15"), "{error}");
    }
}
