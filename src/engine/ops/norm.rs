//! LayerNorm fused with the modulation that follows it, and its gradients.

use super::activation::{Activation, Reads};
use super::simd::{sum, sum2, vectorised};
use super::storage::{self, by_rows};
use crate::Result;
use candle_core::{Tensor, bail};

/// FLUX's epsilon for both norms.
pub const EPSILON: f64 = 1e-6;

/// LayerNorm without weights, then x·(1 + scale) + shift, in the forms that `reads` wants. x: [B, S, C]; shift, scale: [B, C].
pub fn layer_norm_modulate(x: &Tensor, shift: &Tensor, scale: &Tensor, reads: Reads) -> Result<Activation> {
    #[cfg(feature = "cuda")]
    if super::gpu::holds(x) {
        return Ok(super::gpu::layer_norm_modulate(x, shift, scale, reads)?);
    }
    debug_assert!(reads == Reads::VALUES, "products on the CPU read values");
    let (s, c) = sizes(x, shift)?;
    sizes(x, scale)?;
    let [x, shift, scale] = [x.contiguous()?, shift.contiguous()?, scale.contiguous()?];
    let y = storage::with_slices([&x, &shift, &scale], |[values, shift, scale]| {
        storage::filled(x.shape(), |y| by_rows(y, c, |first, y| modulate(values, shift, scale, (s, c), first, y)))
    })??;
    Ok(y.into())
}

/// dx, and `beside` added to it: what flows around the norm. x, g, beside: [B, S, C]; scale: [B, C].
pub fn layer_norm_modulate_gradient(x: &Tensor, scale: &Tensor, g: &Tensor, beside: Option<&Tensor>) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if super::gpu::holds(x) {
        return Ok(super::gpu::layer_norm_modulate_gradient(x, scale, g, beside)?);
    }
    let (s, c) = sizes(x, scale)?;
    if g.dims() != x.dims() || beside.is_some_and(|beside| beside.dims() != x.dims()) {
        return Err(crate::Error::invalid(format!("a gradient {:?} of a norm of {:?}", g.dims(), x.dims())));
    }
    let [x, scale, g] = [x.contiguous()?, scale.contiguous()?, g.contiguous()?];
    let dx = |beside: Option<&[f32]>| {
        storage::with_slices([&x, &scale, &g], |inputs| {
            storage::filled(x.shape(), |dx| by_rows(dx, c, |first, dx| input_gradient(inputs, beside, (s, c), first, dx)))
        })?
    };
    Ok(match beside {
        None => dx(None)?,
        Some(beside) => storage::with_slice(&beside.contiguous()?, |beside| dx(Some(beside)))??,
    })
}

/// (dshift, dscale), [B, C] each. x, g: [B, S, C].
pub fn modulation_gradients(x: &Tensor, g: &Tensor) -> Result<(Tensor, Tensor)> {
    #[cfg(feature = "cuda")]
    if super::gpu::holds(x) {
        return Ok(super::gpu::modulation_gradients(x, g)?);
    }
    let (b, s, c) = x.dims3()?;
    let (x, g) = (x.contiguous()?, g.contiguous()?);
    let (mut dshift, mut dscale) = (vec![0.0; b * c], vec![0.0; b * c]);
    storage::with_slices([&x, &g], |[x, g]| sum_over_tokens(x, g, (s, c), &mut dshift, &mut dscale))?;
    Ok((storage::from_vec(dshift, (b, c))?, storage::from_vec(dscale, (b, c))?))
}

/// Tokens a picture and their width, of x: [B, S, C] with a modulation: [B, C].
fn sizes(x: &Tensor, modulation: &Tensor) -> candle_core::Result<(usize, usize)> {
    let (b, s, c) = x.dims3()?;
    if modulation.dims() != [b, c] {
        bail!("a norm of {:?} has a modulation of {:?}", x.dims(), modulation.dims());
    }
    Ok((s, c))
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
    /// Rows `first..` of dx = (d − mean d − x̂·mean(d·x̂)) / σ + beside, where d = g·(1 + scale).
    fn input_gradient(
        [x, scale, g]: [&[f32]; 3],
        beside: Option<&[f32]>,
        (tokens, width): (usize, usize),
        first: usize,
        dx: &mut [f32],
    ) {
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
            if let Some(beside) = beside {
                let beside = &beside[row * width..][..width];
                for i in 0..width {
                    dx[i] += beside[i];
                }
            }
        }
    }
}

vectorised! {
    /// dshift = Σ g and dscale = Σ g·x̂ over the tokens of each picture.
    fn sum_over_tokens(x: &[f32], g: &[f32], (tokens, width): (usize, usize), dshift: &mut [f32], dscale: &mut [f32]) {
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
                |x| layer_norm_modulate(&x[0], &x[1], &x[2], Reads::VALUES).unwrap().values().unwrap().clone(),
                |x, g| {
                    let beside = tensor(77, (b, s, c));
                    let dx = layer_norm_modulate_gradient(&x[0], &x[2], g, None).unwrap();
                    let sum = layer_norm_modulate_gradient(&x[0], &x[2], g, Some(&beside)).unwrap();
                    assert_close("added to what flows beside", &sum, &(&dx + beside).unwrap(), 1e-6);
                    let (dshift, dscale) = modulation_gradients(&x[0], g).unwrap();
                    vec![dx, dshift, dscale]
                },
                |x| plain::layer_norm_modulate(&x[0], &x[1], &x[2], EPSILON).unwrap(),
            );
        }
    }
}
