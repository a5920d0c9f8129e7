//! RMSNorm and rotary embedding of every query and key head in a packed qkv, and its gradient.

use super::Rope;
use super::norm::EPSILON;
use super::simd::{sum, sum2, vectorised};
use super::storage::{self, by_rows};
use crate::Result;
use candle_core::{Tensor, bail};

/// What the heads of a packed qkv are normalised and turned with.
#[derive(Clone, Copy)]
pub struct QkNormRope<'a> {
    /// Weights of q and of k, [D] each, of the first `text_tokens` tokens.
    pub text: [&'a Tensor; 2],
    /// Of the other tokens.
    pub picture: [&'a Tensor; 2],
    pub text_tokens: usize,
    /// One angle for each token and pair of a head.
    pub rope: &'a Rope,
}

/// RMSNorm over each head of q and k, then rotary embedding; v as it is. qkv: [B, S, 3, H, D]
pub fn qk_norm_rope(qkv: &Tensor, with: QkNormRope) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if super::gpu::holds(qkv) {
        return Ok(super::gpu::qk_norm_rope(qkv, with)?);
    }
    let (qkv, dims) = (qkv.contiguous()?, Dims::of(qkv, &with)?);
    Ok(with.lent(|with| {
        storage::with_slice(&qkv, |values| {
            storage::filled(qkv.shape(), |out| {
                by_rows(out, dims.row(), |first, rows| {
                    rows.copy_from_slice(&values[first * dims.row()..][..rows.len()]);
                    turn_normal(with, dims, first, rows);
                });
            })
        })
    })???)
}

/// The same in the memory of `qkv`.
pub fn qk_norm_rope_in_place(qkv: &Tensor, with: QkNormRope) -> Result<()> {
    #[cfg(feature = "cuda")]
    if super::gpu::holds(qkv) {
        return Ok(super::gpu::qk_norm_rope_in_place(qkv, with)?);
    }
    let dims = Dims::of(qkv, &with)?;
    Ok(with.lent(|with| {
        storage::change(qkv, |values| {
            by_rows(values, dims.row(), |first, rows| turn_normal(with, dims, first, rows));
            Ok(())
        })
    })??)
}

/// dqkv in the memory of `g`, the gradient of what came out of [`qk_norm_rope`]. qkv: what went in; both [B, S, 3, H, D]
pub fn qk_norm_rope_gradient(qkv: &Tensor, g: Tensor, with: QkNormRope) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if super::gpu::holds(qkv) {
        return Ok(super::gpu::qk_norm_rope_gradient(qkv, g, with)?);
    }
    let (qkv, dims) = (qkv.contiguous()?, Dims::of(qkv, &with)?);
    if g.dims() != qkv.dims() {
        return Err(crate::Error::invalid(format!("a gradient {:?} of qkv {:?}", g.dims(), qkv.dims())));
    }
    with.lent(|with| {
        storage::with_slice(&qkv, |values| {
            storage::change(&g, |g| {
                by_rows(g, dims.row(), |first, g| input_gradient(with, dims, &values[first * dims.row()..], first, g));
                Ok(())
            })
        })
    })???;
    Ok(g)
}

/// Tokens a picture, heads, and the width of one.
#[derive(Clone, Copy)]
struct Dims {
    tokens: usize,
    text_tokens: usize,
    heads: usize,
    width: usize,
}

impl Dims {
    fn of(qkv: &Tensor, with: &QkNormRope) -> candle_core::Result<Self> {
        let (_, tokens, three, heads, width) = qkv.dims5()?;
        let angles = [tokens, width / 2];
        let weights = with.text.iter().chain(&with.picture).all(|weight| weight.dims() == [width]);
        if three != 3 || width % 2 == 1 || !weights || with.rope.cos.dims() != angles || with.rope.sin.dims() != angles {
            bail!("qk_norm_rope of {:?} with {:?} and {:?}", qkv.shape(), with.picture[0].shape(), with.rope.cos.shape());
        }
        Ok(Self { tokens, text_tokens: with.text_tokens, heads, width })
    }

    /// Values of a token.
    fn row(self) -> usize {
        3 * self.heads * self.width
    }
}

/// The values of [`QkNormRope`].
#[derive(Clone, Copy)]
struct Lent<'a> {
    text: [&'a [f32]; 2],
    picture: [&'a [f32]; 2],
    cos: &'a [f32],
    sin: &'a [f32],
}

impl QkNormRope<'_> {
    fn lent<T>(&self, work: impl FnOnce(Lent) -> T) -> candle_core::Result<T> {
        let tensors = [self.text[0], self.text[1], self.picture[0], self.picture[1], &self.rope.cos, &self.rope.sin];
        storage::with_slices(tensors, |[text_q, text_k, picture_q, picture_k, cos, sin]| {
            work(Lent { text: [text_q, text_k], picture: [picture_q, picture_k], cos, sin })
        })
    }
}

impl<'a> Lent<'a> {
    /// Weights of q and k, cosines and sines of a row: a token of a picture.
    #[inline(always)]
    fn of(&self, dims: Dims, row: usize) -> ([&'a [f32]; 2], &'a [f32], &'a [f32]) {
        let (token, angles) = (row % dims.tokens, dims.width / 2);
        let weights = if token < dims.text_tokens { self.text } else { self.picture };
        (weights, &self.cos[token * angles..][..angles], &self.sin[token * angles..][..angles])
    }
}

#[inline(always)]
fn pairs(x: &[f32]) -> &[[f32; 2]] {
    x.as_chunks().0
}

#[inline(always)]
fn pairs_mut(x: &mut [f32]) -> &mut [[f32; 2]] {
    x.as_chunks_mut().0
}

#[inline(always)]
fn inverse_root_mean_square(x: &[f32]) -> f32 {
    1.0 / (sum(x, |x| x * x) / x.len() as f32 + EPSILON as f32).sqrt()
}

vectorised! {
    /// Tokens `first..`, in place.
    fn turn_normal(with: Lent, dims: Dims, first: usize, rows: &mut [f32]) {
        let Dims { heads, width, .. } = dims;
        for (row, values) in (first..).zip(rows.chunks_exact_mut(3 * heads * width)) {
            let (weights, cos, sin) = with.of(dims, row);
            for (head, x) in values[..2 * heads * width].chunks_exact_mut(width).enumerate() {
                let (weight, inverse) = (weights[head / heads], inverse_root_mean_square(x));
                for (((x, weight), &cos), &sin) in pairs_mut(x).iter_mut().zip(pairs(weight)).zip(cos).zip(sin) {
                    let [x0, x1] = [x[0] * inverse * weight[0], x[1] * inverse * weight[1]];
                    *x = [x0 * cos - x1 * sin, x1 * cos + x0 * sin];
                }
            }
        }
    }
}

vectorised! {
    /// Tokens `first..` of dx = (d − x̂·mean(d·x̂)) / rms, where d = weight·(g turned back), written over g.
    fn input_gradient(with: Lent, dims: Dims, qkv: &[f32], first: usize, g: &mut [f32]) {
        let Dims { heads, width, .. } = dims;
        for ((row, values), x) in (first..).zip(g.chunks_exact_mut(3 * heads * width)).zip(qkv.chunks_exact(3 * heads * width)) {
            let (weights, cos, sin) = with.of(dims, row);
            let heads_of_g = values[..2 * heads * width].chunks_exact_mut(width);
            for (head, (d, x)) in heads_of_g.zip(x.chunks_exact(width)).enumerate() {
                let weight = weights[head / heads];
                for (((d, weight), &cos), &sin) in pairs_mut(d).iter_mut().zip(pairs(weight)).zip(cos).zip(sin) {
                    *d = [(d[0] * cos + d[1] * sin) * weight[0], (d[1] * cos - d[0] * sin) * weight[1]];
                }
                let inverse = inverse_root_mean_square(x);
                let along_x = sum2(d, x, |d, x| d * x) * inverse * inverse / width as f32;
                for i in 0..width {
                    d[i] = (d[i] - x[i] * along_x) * inverse;
                }
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
        for (seed, (b, s, h, d, text_tokens)) in
            [(1, 1, 2, 8, 0), (3, 7, 4, 24, 3), (1, 129, 3, 64, 128), (2, 16, 1, 128, 16)].into_iter().enumerate()
        {
            let seed = seed as u64 * 10;
            let angles = tensor(seed, (s, d / 2));
            let rope = Rope { cos: angles.cos().unwrap(), sin: angles.sin().unwrap() };
            let weights = [1, 2, 3, 4].map(|i| tensor(seed + i, d));
            let [text_q, text_k, picture_q, picture_k] = &weights;
            let with = QkNormRope { text: [text_q, text_k], picture: [picture_q, picture_k], text_tokens, rope: &rope };
            compare(
                &format!("qk_norm_rope {b} {s} {h} {d}"),
                &[tensor(seed + 5, (b, s, 3, h, d))],
                |x| {
                    let (ours, in_place) = (qk_norm_rope(&x[0], with).unwrap(), x[0].copy().unwrap());
                    qk_norm_rope_in_place(&in_place, with).unwrap();
                    assert_close("in place", &in_place, &ours, 0.0);
                    ours
                },
                |x, g| vec![qk_norm_rope_gradient(&x[0], g.copy().unwrap(), with).unwrap()],
                |x| plain::qk_norm_rope(&x[0], with, EPSILON).unwrap(),
            );
        }
    }
}
