//! Attention without a score tensor in memory: some query rows against all keys at a time; the gradient makes its scores anew.

use super::matrix::{Matrix, MatrixMut, Right, Write, product_block};
use super::simd::{exp, maximum, sum, sum2, vectorised};
use super::storage::{self, by_rows, output};
use crate::Result;
use candle_core::{DType, Tensor, bail};
use rayon::prelude::*;
use std::cell::RefCell;

/// What attention leaves.
#[derive(Clone, Debug)]
pub struct Attended {
    /// [B, S, H·D]
    pub out: Tensor,
    /// [B, H, S] f32: log Σ exp of each query's scaled scores. Kept if a gradient will be asked for.
    pub log_sum_exp: Option<Tensor>,
}

/// softmax(q·kᵀ / √D)·v over all tokens. qkv: [B, S, 3, H, D]
pub fn packed_attention(qkv: &Tensor, keep_log_sum_exp: bool) -> Result<Attended> {
    #[cfg(feature = "cuda")]
    if super::gpu::holds(qkv) {
        return Ok(super::gpu::packed_attention(qkv, keep_log_sum_exp)?);
    }
    let (qkv, dims) = (qkv.contiguous()?, Dims::packed(qkv)?);
    Ok(storage::with_slice(&qkv, |values| {
        let mut sums = vec![0.0; if keep_log_sum_exp { dims.b * dims.h * dims.s } else { 0 }];
        let kept = keep_log_sum_exp.then_some(&mut sums[..]);
        let out = output(values.len() / 3, |out| forward(dims, dims.thirds(values), Scores { scale: dims.scale(), bias: None }, kept, out));
        Ok::<_, candle_core::Error>(Attended {
            out: storage::from_vec(out, (dims.b, dims.s, dims.h * dims.d))?,
            log_sum_exp: keep_log_sum_exp.then(|| storage::from_vec(sums, (dims.b, dims.h, dims.s))).transpose()?,
        })
    })??)
}

/// dqkv, packed as qkv. attended: what [`packed_attention`] left, log-sum-exp included; g: [B, S, H·D].
pub fn packed_attention_gradient(qkv: &Tensor, attended: &Attended, g: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if super::gpu::holds(qkv) {
        return Ok(super::gpu::packed_attention_gradient(qkv, attended, g)?);
    }
    let Some(log_sum_exp) = &attended.log_sum_exp else {
        return Err(crate::Error::invalid("the gradient of attention needs the log-sum-exp of its forward pass"));
    };
    let (qkv, g, dims) = (qkv.contiguous()?, g.contiguous()?, Dims::packed(qkv)?);
    if g.dims() != [dims.b, dims.s, dims.h * dims.d] || attended.out.dims() != g.dims() {
        return Err(crate::Error::invalid(format!("a gradient {:?} of attention over {:?}", g.dims(), qkv.dims())));
    }
    Ok(storage::with_slices([&qkv, &attended.out, log_sum_exp, &g], |[values, out, log_sum_exp, g]| {
        storage::from_vec(backward(dims, dims.thirds(values), out, log_sum_exp, g), qkv.shape())
    })??)
}

/// softmax(scale·scores) over the last dimension. On a GPU in their own memory, contiguous: they are gone then.
pub fn softmax(scores: Tensor, scale: f64) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if super::gpu::holds(&scores) {
        return Ok(super::gpu::softmax(scores, scale)?);
    }
    Ok(super::plain::softmax(&scores, scale)?)
}

/// softmax(q·kᵀ / √D)·v. q, k, v: [B, S, H, D] → [B, S, H·D].
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    if !storage::on_cpu(&[q, k, v]) {
        return Ok(super::plain::attention(q, k, v)?);
    }
    separate([q, k, v], Scores { scale: 1.0 / (q.dim(3)? as f32).sqrt(), bias: None })
}

/// softmax(scale·q·kᵀ + bias)·v, for the text encoders. bias: [H or 1, S, S], −∞ where a query must not look.
pub fn attention_with_bias(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: &Tensor) -> Result<Tensor> {
    if !storage::on_cpu(&[q, k, v]) {
        return Ok(super::plain::attention_with_bias(q, k, v, scale, bias)?);
    }
    let (_, s, h, _) = q.dims4()?;
    if !matches!(bias.dims(), [heads, rows, columns] if (*heads == 1 || *heads == h) && [*rows, *columns] == [s; 2]) {
        return Err(crate::Error::invalid(format!("attention of {:?} with a bias of {:?}", q.shape(), bias.shape())));
    }
    let bias = bias.to_dtype(DType::F32)?.contiguous()?;
    storage::with_slice(&bias, |bias| separate([q, k, v], Scores { scale: scale as f32, bias: Some(bias) }))?
}

/// Attention of q, k and v in tensors of their own.
fn separate(qkv: [&Tensor; 3], scores: Scores) -> Result<Tensor> {
    let (b, s, h, d) = qkv[0].dims4()?;
    if qkv.iter().any(|x| x.shape() != qkv[0].shape()) {
        return Err(crate::Error::invalid(format!("attention of {:?}, {:?} and {:?}", qkv[0].shape(), qkv[1].shape(), qkv[2].shape())));
    }
    let (dims, [q, k, v]) = (Dims { b, s, h, d }, qkv.map(Tensor::contiguous));
    Ok(storage::with_slices([&q?, &k?, &v?], |qkv| {
        let heads = qkv.map(|values| Heads { values, row: h * d });
        storage::filled((b, s, h * d), |out| forward(dims, heads, scores, None, out))
    })??)
}

/// What turns q·kᵀ into scores.
#[derive(Clone, Copy)]
struct Scores<'a> {
    scale: f32,
    /// [H or 1, S, S]
    bias: Option<&'a [f32]>,
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
    fn packed(qkv: &Tensor) -> candle_core::Result<Self> {
        match qkv.dims5()? {
            (b, s, 3, h, d) => Ok(Self { b, s, h, d }),
            _ => bail!("packed attention of {:?}: [B, S, 3, H, D] is needed", qkv.shape()),
        }
    }

    fn scale(self) -> f32 {
        1.0 / (self.d as f32).sqrt()
    }

    /// q, k and v in [B, S, 3, H, D].
    fn thirds(self, qkv: &[f32]) -> [Heads<'_>; 3] {
        let width = self.h * self.d;
        [0, 1, 2].map(|third| Heads { values: qkv.get(third * width..).unwrap_or_default(), row: 3 * width })
    }
}

/// Queries, keys or values of all heads; the rows of tokens are `row` apart.
#[derive(Clone, Copy)]
struct Heads<'a> {
    values: &'a [f32],
    row: usize,
}

impl<'a> Heads<'a> {
    /// The [S, D] of one head, numbered over all pictures.
    fn head(self, Dims { s, h, d, .. }: Dims, index: usize) -> Matrix<'a> {
        Matrix::strided(&self.values[index / h * s * self.row + index % h * d..], s, d, self.row)
    }
}

thread_local!(static SCORES: RefCell<[Vec<f32>; 2]> = RefCell::default());

/// `log_sum_exp`: [B, H, S], to be filled.
fn forward(dims: Dims, [q, k, v]: [Heads; 3], with: Scores, log_sum_exp: Option<&mut [f32]>, out: &mut [f32]) {
    const ROWS: usize = 32;
    let Dims { b, s, h, d } = dims;
    let packed = |index: usize| (Right::pack(k.head(dims, index).t()), Right::pack(v.head(dims, index)));
    let packed: Vec<(Right, Right)> = (0..b * h).into_par_iter().map(packed).collect();
    let blocks = out.chunks_exact_mut(s * h * d).enumerate().flat_map(|(picture, out)| {
        let blocks = MatrixMut::new(out, s, h * d).blocks(ROWS, d);
        blocks.into_iter().map(move |(row, column, block)| (picture * h + column / d, row, block))
    });
    let mut blocks: Vec<_> = blocks.map(|(head, row, block)| (head, row, block, None)).collect();
    if let Some(log_sum_exp) = log_sum_exp {
        // By rows, then heads, as the blocks are.
        let mut parts: Vec<_> = log_sum_exp.chunks_exact_mut(s).map(|head| head.chunks_mut(ROWS)).collect();
        blocks.iter_mut().for_each(|(head, _, _, part)| *part = parts[*head].next());
    }
    blocks.into_par_iter().for_each(|(head, row, mut block, log_sum_exp)| {
        let (rows, (k, v)) = (block.rows(), &packed[head]);
        SCORES.with_borrow_mut(|[scores, _]| {
            scores.resize(rows * s, 0.0);
            product_block(q.head(dims, head).narrow(row, rows), k, 0, MatrixMut::new(scores, rows, s), Write::Replace);
            let mut scale = with.scale;
            if let Some(bias) = with.bias {
                let bias = if bias.len() == s * s { bias } else { &bias[head % h * s * s..] };
                add_bias(scores, scale, &bias[row * s..]);
                scale = 1.0;
            }
            let mut totals = [Total::default(); ROWS];
            exponentiate(scores, s, scale, &mut totals);
            product_block(Matrix::new(scores, rows, s), v, 0, block.reborrow(), Write::Replace);
            for (row, total) in totals[..rows].iter().enumerate() {
                divide(block.row_mut(row), total.sum);
            }
            for (kept, total) in log_sum_exp.into_iter().flatten().zip(&totals) {
                *kept = total.most * scale + total.sum.ln();
            }
        });
    });
}

/// dq, dk and dv, packed; heads in parallel. With P = exp(scale·q·kᵀ − log-sum-exp), the weights, and dP = dO·Vᵀ:
/// dS = scale·P∘(dP − Σ O·dO), dQ = dS·K, dK = dSᵀ·Q, dV = Pᵀ·dO.
fn backward(dims: Dims, [q, k, v]: [Heads; 3], out: &[f32], log_sum_exp: &[f32], g: &[f32]) -> Vec<f32> {
    let Dims { b, s, h, d } = dims;
    let mut gradients = vec![0.0; 3 * g.len()];
    let agreements = agreements(dims, out, g);
    let (g, scale) = (Heads { values: g, row: h * d }, dims.scale());
    // For each picture dq, dk and dv of every head in turn.
    let parts = gradients.chunks_exact_mut((3 * s * h * d).max(1)).flat_map(|qkv| MatrixMut::new(qkv, s, 3 * h * d).blocks(s, d));
    let mut parts: Vec<_> = parts.map(|(_, _, part)| Some(part)).collect();
    let mut part = |index: usize, third: usize| parts[index / h * 3 * h + third * h + index % h].take().expect("every part once");
    let heads: Vec<_> = (0..b * h).map(|index| (index, [part(index, 0), part(index, 1), part(index, 2)])).collect();
    heads.into_par_iter().for_each(|(index, [mut dq, mut dk, mut dv])| {
        let [q, k, v, g] = [q, k, v, g].map(|x| x.head(dims, index));
        let (keys, keys_turned, values_turned) = (Right::pack(k), Right::pack(k.t()), Right::pack(v.t()));
        let (sums, agreements) = (&log_sum_exp[index * s..][..s], &agreements[index * s..][..s]);
        let step = rows_at_a_time(s);
        SCORES.with_borrow_mut(|[weights, slopes]| {
            for row in (0..s).step_by(step) {
                let rows = step.min(s - row);
                let (q, g) = (q.narrow(row, rows), g.narrow(row, rows));
                weights.resize(rows * s, 0.0);
                slopes.resize(rows * s, 0.0);
                product_block(q, &keys_turned, 0, MatrixMut::new(weights, rows, s), Write::Replace);
                product_block(g, &values_turned, 0, MatrixMut::new(slopes, rows, s), Write::Replace);
                score_gradients(weights, slopes, s, scale, &sums[row..], &agreements[row..]);
                let (weights, slopes) = (Matrix::new(weights, rows, s), Matrix::new(slopes, rows, s));
                product_block(weights.t(), &Right::pack(g), 0, dv.reborrow(), Write::Add);
                product_block(slopes.t(), &Right::pack(q), 0, dk.reborrow(), Write::Add);
                product_block(slopes, &keys, 0, dq.narrow(row, rows), Write::Replace);
            }
        });
    });
    gradients
}

/// Σ O·dO of every query, [B, H, S].
fn agreements(Dims { b, s, h, d }: Dims, out: &[f32], g: &[f32]) -> Vec<f32> {
    output(b * h * s, |sums| {
        by_rows(sums, s, |first, sums| {
            for (index, sum) in sums.iter_mut().enumerate() {
                let (head, token) = (first + index / s, index % s);
                let at = ((head / h * s + token) * h + head % h) * d;
                *sum = dot(&out[at..][..d], &g[at..][..d]);
            }
        });
    })
}

/// Enough rows that the sums over them are worth their loads and stores, few enough that their scores stay in the second cache.
fn rows_at_a_time(s: usize) -> usize {
    const VALUES: usize = 1 << 16;
    (VALUES / s.max(1) / 32 * 32).clamp(32, 128)
}

/// Of a row of scores.
#[derive(Clone, Copy, Default)]
struct Total {
    most: f32,
    /// Σ e^(scale·(x − most))
    sum: f32,
}

vectorised! {
    fn dot(x: &[f32], y: &[f32]) -> f32 {
        sum2(x, y, |x, y| x * y)
    }
}

vectorised! {
    fn add_bias(scores: &mut [f32], scale: f32, bias: &[f32]) {
        for (score, bias) in scores.iter_mut().zip(bias) {
            *score = *score * scale + bias;
        }
    }
}

vectorised! {
    /// Each row becomes e^(scale·(x − its largest)).
    fn exponentiate(scores: &mut [f32], width: usize, scale: f32, totals: &mut [Total]) {
        for (row, total) in scores.chunks_exact_mut(width).zip(totals) {
            let most = maximum(row);
            for x in row.iter_mut() {
                *x = exp((*x - most) * scale);
            }
            *total = Total { most, sum: sum(row, |x| x) };
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
    /// Turns scores into weights, and dP in `slopes` into dS.
    fn score_gradients(weights: &mut [f32], slopes: &mut [f32], width: usize, scale: f32, sums: &[f32], agreements: &[f32]) {
        let rows = weights.chunks_exact_mut(width).zip(slopes.chunks_exact_mut(width));
        for (((weights, slopes), &sum), &agreement) in rows.zip(sums).zip(agreements) {
            for (weight, slope) in weights.iter_mut().zip(slopes) {
                *weight = exp(*weight * scale - sum);
                *slope = (*slope - agreement) * *weight * scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{plain, testing::*};

    const SIZES: [(usize, usize, usize, usize); 5] = [(1, 1, 1, 8), (3, 7, 2, 24), (1, 129, 4, 64), (1, 65, 2, 128), (2, 33, 3, 40)];

    #[test]
    fn agrees_with_plain() {
        for (seed, (b, s, h, d)) in SIZES.into_iter().enumerate() {
            compare(
                &format!("packed attention {b} {s} {h} {d}"),
                &[tensor(seed as u64, (b, s, 3, h, d))],
                |x| packed_attention(&x[0], false).unwrap().out,
                |x, g| vec![packed_attention_gradient(&x[0], &packed_attention(&x[0], true).unwrap(), g).unwrap()],
                |x| plain::packed_attention(&x[0]).unwrap(),
            );
        }
    }

    #[test]
    fn separate_tensors_agree_with_plain() {
        for (seed, (b, s, h, d)) in SIZES.into_iter().enumerate() {
            let [q, k, v] = [0, 1, 2].map(|i| tensor(seed as u64 * 10 + i, (b, s, h, d)));
            let ours = attention(&q, &k, &v).unwrap();
            assert_close("attention", &ours, &plain::attention(&q, &k, &v).unwrap(), 2e-5);
        }
    }

    #[test]
    fn the_log_of_the_sums_is_kept() {
        let (b, s, h, d) = (2, 41, 3, 16);
        let qkv = tensor(1, (b, s, 3, h, d));
        let [q, k] = [0, 1].map(|i| qkv.narrow(2, i, 1).unwrap().squeeze(2).unwrap().transpose(1, 2).unwrap().contiguous().unwrap());
        let scores = (q.matmul(&k.t().unwrap()).unwrap() / (d as f64).sqrt()).unwrap();
        let ours = packed_attention(&qkv, true).unwrap().log_sum_exp.unwrap();
        assert_close("log-sum-exp", &ours, &scores.log_sum_exp(3).unwrap(), 1e-5);
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
        let qkv = (tensor(0, (1, 9, 3, 1, 8)) * 100.0).unwrap();
        let out = packed_attention(&qkv, false).unwrap().out;
        assert_close("attention", &out, &plain::packed_attention(&qkv).unwrap(), 2e-5);
    }
}
