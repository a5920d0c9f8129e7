//! Products with frozen weights: forward and dX, never dW.

use super::matrix::{Matrix, MatrixMut, Right, Write, product};
use super::storage::{self, output};
use crate::Result;
use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Shape, Tensor};
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
}

/// Whether every value survives bf16, as those of a bf16 checkpoint do.
pub(super) fn is_bf16(data: &[f32]) -> bool {
    data.iter().all(|x| x.to_bits() & 0xffff == 0)
}

/// x·Wᵀ + b. x: [.., in] → [.., out]
pub fn linear(x: &Tensor, weight: &Weight, bias: Option<&Tensor>) -> Result<Tensor> {
    match &weight.0.form {
        Form::Tensor(weight) => Ok(super::plain::linear(x, weight, bias)?),
        Form::Packed { .. } => {
            let bias = bias.map(|bias| bias.to_dtype(DType::F32)?.flatten_all()?.to_vec1()).transpose()?;
            let op = Linear { weight: weight.0.clone(), bias };
            Ok(x.to_dtype(DType::F32)?.contiguous()?.apply_op1(op)?)
        }
    }
}

struct Linear {
    weight: Arc<Held>,
    bias: Option<Vec<f32>>,
}

impl CustomOp1 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let Form::Packed { forward, .. } = &self.weight.form else { unreachable!("a packed weight was chosen by the caller") };
        times(storage::slice(x, layout)?, layout.shape(), forward, self.bias.as_deref())
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let Form::Packed { forward, backward } = &self.weight.form else { unreachable!("a packed weight was chosen by the caller") };
        let backward = backward.get_or_init(|| forward.transposed());
        let gradient = gradient.contiguous()?;
        let (data, shape) = storage::with_slice(&gradient, |g| times(g, gradient.shape(), backward, None))??;
        debug_assert_eq!(&shape, x.shape());
        storage::tensor(data, shape).map(Some)
    }
}

/// x·right + b. x: [.., in]
fn times(x: &[f32], shape: &Shape, right: &Right, bias: Option<&[f32]>) -> candle_core::Result<(CpuStorage, Shape)> {
    let (inner, columns) = (shape.dim(D::Minus1)?, right.columns());
    if inner != right.rows() {
        candle_core::bail!("a linear layer of {} → {columns} features was given {inner}", right.rows());
    }
    if bias.is_some_and(|bias| bias.len() != columns) {
        candle_core::bail!("a linear layer of {inner} → {columns} features has a bias of another length");
    }
    let rows = shape.elem_count() / inner.max(1);
    let y = output(rows * columns, |y| {
        let write = bias.map_or(Write::Replace, Write::From);
        product(Matrix::new(x, rows, inner), right, MatrixMut::new(y, rows, columns), write);
    });
    let mut dims = shape.dims().to_vec();
    *dims.last_mut().expect("x has a last dimension, `inner`") = columns;
    Ok((CpuStorage::F32(y), dims.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{plain, testing::*};

    const SHAPES: [(&[usize], usize, usize); 4] = [(&[1], 48, 250), (&[3, 7], 250, 48), (&[1, 129], 64, 33), (&[2, 5, 8], 24, 128)];

    #[test]
    fn agrees_with_plain_for_every_kind_of_checkpoint() {
        for (seed, (rows, inner, columns)) in SHAPES.into_iter().enumerate() {
            let shape: Vec<usize> = rows.iter().copied().chain([inner]).collect();
            for dtype in [DType::BF16, DType::F16, DType::F32] {
                let weight = tensor(seed as u64 + 10, (columns, inner)).to_dtype(dtype).unwrap();
                let (packed, plain_weight) = (Weight::new(&weight).unwrap(), weight.to_dtype(DType::F32).unwrap());
                for bias in [None, Some(tensor(seed as u64 + 20, columns))] {
                    compare(
                        &format!("linear {shape:?} {dtype:?}"),
                        &[tensor(seed as u64, shape.as_slice())],
                        |x| linear(&x[0], &packed, bias.as_ref()).unwrap(),
                        |x| plain::linear(&x[0], &plain_weight, bias.as_ref()).unwrap(),
                    );
                }
            }
        }
    }

    #[test]
    fn refuses_another_width() {
        let weight = Weight::new(&tensor(0, (8, 16))).unwrap();
        let error = linear(&tensor(1, (2, 15)), &weight, None).unwrap_err().to_string();
        assert!(error.contains("16 → 8") && error.contains("15"), "{error}");
    }
}
