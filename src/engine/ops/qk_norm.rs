//! RMSNorm of each query or key head fused with its rotary embedding, forward and backward.

use super::norm::EPSILON;
use super::simd::{sum, sum2, vectorised};
use super::storage::{self, by_rows, output};
use super::{Rope, plain};
use crate::Result;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor};

/// RMSNorm over each head, then rotary embedding. x: [B, S, H, D]; weight: [D].
pub fn rms_norm_rope(x: &Tensor, weight: &Tensor, rope: &Rope) -> Result<Tensor> {
    if !storage::on_cpu(&[x, &rope.cos, &rope.sin]) {
        return Ok(plain::rms_norm_rope(x, weight, &rope.cos, &rope.sin, EPSILON)?);
    }
    let op = RmsNormRope { weight: weight.to_dtype(DType::F32)?.contiguous()?, cos: rope.cos.contiguous()?, sin: rope.sin.contiguous()? };
    Ok(x.contiguous()?.apply_op1(op)?)
}

struct RmsNormRope {
    weight: Tensor,
    cos: Tensor,
    sin: Tensor,
}

impl CustomOp1 for RmsNormRope {
    fn name(&self) -> &'static str {
        "rms-norm-rope"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (_, s, h, d) = layout.shape().dims4()?;
        if self.weight.dims() != [d] || self.cos.dims() != [s, d / 2] || self.sin.dims() != [s, d / 2] || d % 2 == 1 {
            candle_core::bail!("rms_norm_rope of {:?} with {:?} and {:?}", layout.shape(), self.weight.shape(), self.cos.shape());
        }
        let x = storage::slice(x, layout)?;
        let y = storage::with_slices([&self.weight, &self.cos, &self.sin], |constants| {
            output(x.len(), |y| by_rows(y, d, |first, y| rotate_normal(x, constants, (s, h), first, y)))
        })?;
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let (_, s, h, d) = x.dims4()?;
        let gradient = gradient.contiguous()?;
        let dx = storage::with_slices([x, &gradient, &self.weight, &self.cos, &self.sin], |[x, g, weight, cos, sin]| {
            output(x.len(), |dx| by_rows(dx, d, |first, dx| input_gradient(x, g, [weight, cos, sin], (s, h), first, dx)))
        })?;
        storage::from_vec(dx, x.shape()).map(Some)
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
    /// Heads `first..` of the result, of `heads` a token and `tokens` a picture.
    fn rotate_normal(x: &[f32], [weight, cos, sin]: [&[f32]; 3], (tokens, heads): (usize, usize), first: usize, y: &mut [f32]) {
        let width = weight.len();
        for (row, y) in (first..).zip(y.chunks_exact_mut(width)) {
            let x = &x[row * width..][..width];
            let angle = row / heads % tokens * (width / 2);
            let (cos, sin) = (&cos[angle..][..width / 2], &sin[angle..][..width / 2]);
            let inverse = inverse_root_mean_square(x);
            for ((((y, x), weight), &cos), &sin) in pairs_mut(y).iter_mut().zip(pairs(x)).zip(pairs(weight)).zip(cos).zip(sin) {
                let [x0, x1] = [x[0] * inverse * weight[0], x[1] * inverse * weight[1]];
                *y = [x0 * cos - x1 * sin, x1 * cos + x0 * sin];
            }
        }
    }
}

vectorised! {
    /// Heads `first..` of dx = (d − x̂·mean(d·x̂)) / rms, where d = weight·(g turned back).
    fn input_gradient(x: &[f32], g: &[f32], [weight, cos, sin]: [&[f32]; 3], (tokens, heads): (usize, usize), first: usize, dx: &mut [f32]) {
        let width = weight.len();
        for (row, dx) in (first..).zip(dx.chunks_exact_mut(width)) {
            let (x, g) = (&x[row * width..][..width], &g[row * width..][..width]);
            let angle = row / heads % tokens * (width / 2);
            let (cos, sin) = (&cos[angle..][..width / 2], &sin[angle..][..width / 2]);
            for ((((dx, g), weight), &cos), &sin) in pairs_mut(dx).iter_mut().zip(pairs(g)).zip(pairs(weight)).zip(cos).zip(sin) {
                *dx = [(g[0] * cos + g[1] * sin) * weight[0], (g[1] * cos - g[0] * sin) * weight[1]];
            }
            let inverse = inverse_root_mean_square(x);
            let along_x = sum2(dx, x, |d, x| d * x) * inverse * inverse / width as f32;
            for i in 0..width {
                dx[i] = (dx[i] - x[i] * along_x) * inverse;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::*;

    #[test]
    fn agrees_with_plain() {
        for (seed, (b, s, h, d)) in [(1, 1, 2, 8), (3, 7, 4, 24), (1, 129, 3, 64), (2, 16, 1, 128)].into_iter().enumerate() {
            let seed = seed as u64 * 10;
            let angles = tensor(seed, (s, d / 2));
            let rope = Rope { cos: angles.cos().unwrap(), sin: angles.sin().unwrap() };
            let weight = tensor(seed + 1, d);
            compare(
                &format!("rms_norm_rope {b} {s} {h} {d}"),
                &[tensor(seed + 2, (b, s, h, d))],
                |x| rms_norm_rope(&x[0], &weight, &rope).unwrap(),
                |x| plain::rms_norm_rope(&x[0], &weight, &rope.cos, &rope.sin, EPSILON).unwrap(),
            );
        }
    }
}
