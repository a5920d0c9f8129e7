//! LayerNorm fused with the modulation that follows it, forward and backward.

use super::simd::{sum, sum2, vectorised};
use super::storage::{self, by_rows, output};
use crate::Result;
use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Tensor};

/// FLUX's epsilon for both norms.
pub const EPSILON: f64 = 1e-6;

/// LayerNorm without weights, then x·(1 + scale) + shift. x: [B, S, C]; shift, scale: [B, C].
pub fn layer_norm_modulate(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Result<Tensor> {
    if !storage::on_cpu(&[x, shift, scale]) {
        return Ok(super::plain::layer_norm_modulate(x, shift, scale, EPSILON)?);
    }
    Ok(x.contiguous()?.apply_op3(&shift.contiguous()?, &scale.contiguous()?, LayerNormModulate)?)
}

struct LayerNormModulate;

impl CustomOp3 for LayerNormModulate {
    fn name(&self) -> &'static str {
        "layer-norm-modulate"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        shift: &CpuStorage,
        lb: &Layout,
        scale: &CpuStorage,
        lw: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (b, s, c) = lx.shape().dims3()?;
        if lb.shape().dims() != [b, c] || lw.shape().dims() != [b, c] {
            candle_core::bail!("layer_norm_modulate of {:?} with {:?} and {:?}", lx.shape(), lb.shape(), lw.shape());
        }
        let (x, shift, scale) = (storage::slice(x, lx)?, storage::slice(shift, lb)?, storage::slice(scale, lw)?);
        let y = output(x.len(), |y| by_rows(y, c, |first, y| modulate(x, shift, scale, (s, c), first, y)));
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        shift: &Tensor,
        scale: &Tensor,
        _y: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (b, s, c) = x.dims3()?;
        let gradient = gradient.contiguous()?;
        let dx = || {
            storage::with_slices([x, scale, &gradient], |[x, w, g]| {
                output(x.len(), |dx| by_rows(dx, c, |first, dx| input_gradient(x, w, g, (s, c), first, dx)))
            })
        };
        let dx = x.track_op().then(|| storage::from_vec(dx()?, x.shape())).transpose()?;
        if !shift.track_op() && !scale.track_op() {
            return Ok((dx, None, None));
        }
        let (mut dshift, mut dscale) = (vec![0.0; b * c], vec![0.0; b * c]);
        storage::with_slices([x, &gradient], |[x, g]| modulation_gradients(x, g, (s, c), &mut dshift, &mut dscale))?;
        Ok((dx, Some(storage::from_vec(dshift, (b, c))?), Some(storage::from_vec(dscale, (b, c))?)))
    }
}

/// Mean and 1/σ of a row.
#[inline(always)]
fn statistics(x: &[f32]) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = sum(x, |x| x) / n;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / n;
    (mean, 1.0 / (variance + EPSILON as f32).sqrt())
}

vectorised! {
    /// Rows `first..` of the result; `tokens` rows of `width` share a modulation.
    fn modulate(x: &[f32], shift: &[f32], scale: &[f32], (tokens, width): (usize, usize), first: usize, y: &mut [f32]) {
        for (row, y) in (first..).zip(y.chunks_exact_mut(width)) {
            let x = &x[row * width..][..width];
            let (shift, scale) = (&shift[row / tokens * width..][..width], &scale[row / tokens * width..][..width]);
            let (mean, inverse) = statistics(x);
            for i in 0..width {
                y[i] = (x[i] - mean) * inverse * (1.0 + scale[i]) + shift[i];
            }
        }
    }
}

vectorised! {
    /// Rows `first..` of dx = (d − mean d − x̂·mean(d·x̂)) / σ, where d = g·(1 + scale).
    fn input_gradient(x: &[f32], scale: &[f32], g: &[f32], (tokens, width): (usize, usize), first: usize, dx: &mut [f32]) {
        for (row, dx) in (first..).zip(dx.chunks_exact_mut(width)) {
            let (x, g) = (&x[row * width..][..width], &g[row * width..][..width]);
            let scale = &scale[row / tokens * width..][..width];
            let (mean, inverse) = statistics(x);
            for i in 0..width {
                dx[i] = g[i] * (1.0 + scale[i]);
            }
            let along_one = sum(dx, |d| d) / width as f32;
            let along_x = sum2(dx, x, |d, x| d * (x - mean)) * inverse * inverse / width as f32;
            for i in 0..width {
                dx[i] = (dx[i] - along_one - (x[i] - mean) * along_x) * inverse;
            }
        }
    }
}

vectorised! {
    /// dshift = Σ g and dscale = Σ g·x̂ over the tokens of each picture.
    fn modulation_gradients(x: &[f32], g: &[f32], (tokens, width): (usize, usize), dshift: &mut [f32], dscale: &mut [f32]) {
        for (row, (x, g)) in x.chunks_exact(width).zip(g.chunks_exact(width)).enumerate() {
            let (mean, inverse) = statistics(x);
            let (dshift, dscale) = (&mut dshift[row / tokens * width..][..width], &mut dscale[row / tokens * width..][..width]);
            for i in 0..width {
                dshift[i] += g[i];
                dscale[i] += g[i] * (x[i] - mean) * inverse;
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
        for (seed, (b, s, c)) in [(1, 1, 48), (1, 129, 250), (3, 7, 64), (2, 384, 256)].into_iter().enumerate() {
            let seed = seed as u64 * 10;
            let inputs = [(tensor(seed, (b, s, c)) + 0.5).unwrap(), tensor(seed + 1, (b, c)), tensor(seed + 2, (b, c))];
            compare(
                &format!("layer_norm_modulate {b} {s} {c}"),
                &inputs,
                |x| layer_norm_modulate(&x[0], &x[1], &x[2]).unwrap(),
                |x| plain::layer_norm_modulate(&x[0], &x[1], &x[2], EPSILON).unwrap(),
            );
        }
    }
}
