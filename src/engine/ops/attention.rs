//! Attention without a score tensor in memory: some query rows against all keys at a time; the backward pass makes its scores anew.

use super::matrix::{Matrix, MatrixMut, Right, Write, product_block};
use super::simd::{exp, maximum, sum, sum2, vectorised};
use super::storage::{self, output};
use crate::Result;
use candle_core::{CpuStorage, CustomOp3, DType, Layout, Shape, Tensor};
use rayon::prelude::*;
use std::cell::RefCell;

/// softmax(q·kᵀ / √D)·v. q, k, v: [B, S, H, D] → [B, S, H·D].
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    if !storage::on_cpu(&[q, k, v]) {
        return Ok(super::plain::attention(q, k, v)?);
    }
    let scale = 1.0 / (q.dim(3)? as f32).sqrt();
    Ok(q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, Attention { scale, bias: None })?)
}

/// softmax(scale·q·kᵀ + bias)·v, for the text encoders: no gradient. bias: [H or 1, S, S], −∞ where a query must not look.
pub fn attention_with_bias(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: &Tensor) -> Result<Tensor> {
    if !storage::on_cpu(&[q, k, v]) {
        return Ok(super::plain::attention_with_bias(q, k, v, scale, bias)?);
    }
    let op = Attention { scale: scale as f32, bias: Some(bias.to_dtype(DType::F32)?.contiguous()?) };
    Ok(q.contiguous()?.apply_op3_no_bwd(&k.contiguous()?, &v.contiguous()?, &op)?)
}

struct Attention {
    scale: f32,
    /// [H or 1, S, S]
    bias: Option<Tensor>,
}

/// Lengths of [B, S, H, D].
#[derive(Clone, Copy)]
struct Dims {
    b: usize,
    s: usize,
    h: usize,
    d: usize,
}

impl Dims {
    fn of(shape: &Shape) -> candle_core::Result<Self> {
        let (b, s, h, d) = shape.dims4()?;
        Ok(Self { b, s, h, d })
    }

    /// The [S, D] of one head.
    fn head(self, x: &[f32], picture: usize, head: usize) -> Matrix<'_> {
        let Self { s, h, d, .. } = self;
        Matrix::strided(&x[(picture * s * h + head) * d..], s, d, h * d)
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        lq: &Layout,
        k: &CpuStorage,
        lk: &Layout,
        v: &CpuStorage,
        lv: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let dims = Dims::of(lq.shape())?;
        if lk.shape() != lq.shape() || lv.shape() != lq.shape() {
            candle_core::bail!("attention of {:?}, {:?} and {:?}", lq.shape(), lk.shape(), lv.shape());
        }
        let (q, k, v) = (storage::slice(q, lq)?, storage::slice(k, lk)?, storage::slice(v, lv)?);
        let run = |bias: Option<&[f32]>| output(q.len(), |out| forward(dims, [q, k, v], self.scale, bias, out));
        let out = match &self.bias {
            None => run(None),
            Some(bias) if matches!(bias.dims(), [heads, s, t] if (*heads == 1 || *heads == dims.h) && [*s, *t] == [dims.s; 2]) => {
                storage::with_slice(bias, |bias| run(Some(bias)))?
            }
            Some(bias) => candle_core::bail!("attention of {:?} with a bias of {:?}", lq.shape(), bias.shape()),
        };
        Ok((CpuStorage::F32(out), (dims.b, dims.s, dims.h * dims.d).into()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _out: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dims = Dims::of(q.shape())?;
        let gradient = gradient.contiguous()?;
        let [dq, dk, dv] = storage::with_slices([q, k, v, &gradient], |inputs| backward(dims, inputs, self.scale))?;
        let like = |data: Vec<f32>, x: &Tensor| storage::from_vec(data, x.shape()).map(Some);
        Ok((like(dq, q)?, like(dk, k)?, like(dv, v)?))
    }
}

thread_local!(static SCORES: RefCell<[Vec<f32>; 2]> = RefCell::default());

fn forward(dims: Dims, [q, k, v]: [&[f32]; 3], scale: f32, bias: Option<&[f32]>, out: &mut [f32]) {
    const ROWS: usize = 32;
    let Dims { b, s, h, d } = dims;
    let head = |index: usize| (dims.head(k, index / h, index % h).t(), dims.head(v, index / h, index % h));
    let packed: Vec<(Right, Right)> = (0..b * h).into_par_iter().map(head).map(|(k, v)| (Right::pack(k), Right::pack(v))).collect();
    let blocks = out.chunks_exact_mut(s * h * d).enumerate().flat_map(|(picture, out)| {
        let blocks = MatrixMut::new(out, s, h * d).blocks(ROWS, d);
        blocks.into_iter().map(move |(row, column, block)| (picture, row, column / d, block))
    });
    blocks.collect::<Vec<_>>().into_par_iter().for_each(|(picture, row, head, mut block)| {
        let (rows, (k, v)) = (block.rows(), &packed[picture * h + head]);
        SCORES.with_borrow_mut(|[scores, _]| {
            scores.resize(rows * s, 0.0);
            product_block(dims.head(q, picture, head).narrow(row, rows), k, 0, MatrixMut::new(scores, rows, s), Write::Replace);
            if let Some(bias) = bias {
                let bias = if bias.len() == s * s { bias } else { &bias[head * s * s..] };
                add_bias(scores, scale, &bias[row * s..]);
            }
            let mut sums = [0.0; ROWS];
            exponentiate(scores, s, if bias.is_some() { 1.0 } else { scale }, &mut sums);
            product_block(Matrix::new(scores, rows, s), v, 0, block.reborrow(), Write::Replace);
            for row in 0..rows {
                divide(block.row_mut(row), sums[row]);
            }
        });
    });
}

/// dq, dk and dv; heads in parallel. With P the weights and dP = dO·Vᵀ: dS = scale·P∘(dP − Σ P∘dP), dQ = dS·K, dK = dSᵀ·Q, dV = Pᵀ·dO.
fn backward(dims: Dims, [q, k, v, g]: [&[f32]; 4], scale: f32) -> [Vec<f32>; 3] {
    let Dims { s, h, d, .. } = dims;
    let mut gradients = [(); 3].map(|_| vec![0.0; q.len()]);
    let [dq, dk, dv] = gradients.each_mut().map(|x| heads_of(x, dims));
    dq.into_par_iter().zip(dk).zip(dv).enumerate().for_each(|(index, ((mut dq, mut dk), mut dv))| {
        let [q, k, v, g] = [q, k, v, g].map(|x| dims.head(x, index / h, index % h));
        let (keys, keys_turned, values_turned) = (Right::pack(k), Right::pack(k.t()), Right::pack(v.t()));
        let step = rows_at_a_time(s);
        SCORES.with_borrow_mut(|[weights, slopes]| {
            for row in (0..s).step_by(step) {
                let rows = step.min(s - row);
                let (q, g) = (q.narrow(row, rows), g.narrow(row, rows));
                weights.resize(rows * s, 0.0);
                slopes.resize(rows * s, 0.0);
                product_block(q, &keys_turned, 0, MatrixMut::new(weights, rows, s), Write::Replace);
                product_block(g, &values_turned, 0, MatrixMut::new(slopes, rows, s), Write::Replace);
                let mut sums = vec![0.0; rows];
                exponentiate(weights, s, scale, &mut sums);
                score_gradients(weights, slopes, s, scale, &sums);
                let (weights, slopes) = (Matrix::new(weights, rows, s), Matrix::new(slopes, rows, s));
                product_block(weights.t(), &Right::pack(g), 0, dv.reborrow(), Write::Add);
                product_block(slopes.t(), &Right::pack(q), 0, dk.reborrow(), Write::Add);
                product_block(slopes, &keys, 0, dq.narrow(row, rows), Write::Replace);
            }
        });
    });
    debug_assert!(gradients.iter().all(|x| x.len() == dims.b * s * h * d));
    gradients
}

/// Enough rows that the sums over them are worth their loads and stores, few enough that their scores stay in the second cache.
fn rows_at_a_time(s: usize) -> usize {
    const VALUES: usize = 1 << 16;
    (VALUES / s.max(1) / 32 * 32).clamp(32, 128)
}

/// The [S, D] of every head, in order.
fn heads_of(x: &mut [f32], Dims { s, h, d, .. }: Dims) -> Vec<MatrixMut<'_>> {
    let blocks = x.chunks_exact_mut(s * h * d).flat_map(|x| MatrixMut::new(x, s, h * d).blocks(s, d));
    blocks.map(|(_, _, head)| head).collect()
}

vectorised! {
    fn add_bias(scores: &mut [f32], scale: f32, bias: &[f32]) {
        for (score, bias) in scores.iter_mut().zip(bias) {
            *score = *score * scale + bias;
        }
    }
}

vectorised! {
    /// Each row becomes e^(scale·(x − its largest)); `sums` gets the sums.
    fn exponentiate(scores: &mut [f32], width: usize, scale: f32, sums: &mut [f32]) {
        for (row, total) in scores.chunks_exact_mut(width).zip(sums) {
            let most = maximum(row);
            for x in row.iter_mut() {
                *x = exp((*x - most) * scale);
            }
            *total = sum(row, |x| x);
        }
    }
}

vectorised! {
    fn divide(values: &mut [f32], by: f32) {
        let inverse = 1.0 / by;
        for x in values {
            *x *= inverse;
        }
    }
}

vectorised! {
    /// Normalises the rows of `weights` by `sums`, and turns dP in `slopes` into dS.
    fn score_gradients(weights: &mut [f32], slopes: &mut [f32], width: usize, scale: f32, sums: &[f32]) {
        for ((weights, slopes), total) in weights.chunks_exact_mut(width).zip(slopes.chunks_exact_mut(width)).zip(sums) {
            let inverse = 1.0 / total;
            for weight in weights.iter_mut() {
                *weight *= inverse;
            }
            let common = sum2(weights, slopes, |p, dp| p * dp);
            for (slope, weight) in slopes.iter_mut().zip(weights.iter()) {
                *slope = (*slope - common) * weight * scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{plain, testing::*};

    #[test]
    fn agrees_with_plain() {
        for (seed, (b, s, h, d)) in [(1, 1, 1, 8), (3, 7, 2, 24), (1, 129, 4, 64), (1, 65, 2, 128), (2, 33, 3, 40)].into_iter().enumerate()
        {
            let inputs = [0, 1, 2].map(|i| tensor(seed as u64 * 10 + i, (b, s, h, d)));
            compare(
                &format!("attention {b} {s} {h} {d}"),
                &inputs,
                |x| attention(&x[0], &x[1], &x[2]).unwrap(),
                |x| plain::attention(&x[0], &x[1], &x[2]).unwrap(),
            );
        }
    }

    #[test]
    fn a_bias_is_added_and_minus_infinity_hides_a_key() {
        let (b, s, h, d) = (2, 21, 3, 16);
        let [q, k, v] = [0, 1, 2].map(|i| tensor(i, (b, s, h, d)));
        let causal: Vec<f32> = (0..s * s).map(|at| if at % s > at / s { f32::NEG_INFINITY } else { 0.0 }).collect();
        let causal = storage::from_vec(causal, (1, s, s)).unwrap();
        for bias in [causal, tensor(3, (h, s, s))] {
            let ours = attention_with_bias(&q, &k, &v, 1.0, &bias).unwrap();
            assert_close("attention_with_bias", &ours, &plain::attention_with_bias(&q, &k, &v, 1.0, &bias).unwrap(), 2e-5);
        }
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let q = (tensor(0, (1, 9, 1, 8)) * 100.0).unwrap();
        let out = attention(&q, &q, &q).unwrap();
        assert_close("attention", &out, &plain::attention(&q, &q, &q).unwrap(), 2e-5);
    }
}
