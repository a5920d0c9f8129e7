//! GELU and the gated residual, with their gradients.

use super::activation::{Activation, Reads};
use super::simd::{exp, vectorised};
use super::storage::{self, by_rows};
use crate::Result;
use candle_core::{Tensor, bail};

/// residual + gate·x. residual, x: [B, S, C]; gate: [B, C]. The residual's gradient is the sum's.
pub fn gate_residual(residual: &Tensor, gate: &Tensor, x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if super::gpu::holds(x) {
        return Ok(super::gpu::gate_residual(residual, gate, x)?);
    }
    let (tokens, width) = gated_sizes(gate, x)?;
    if residual.dims() != x.dims() {
        return Err(crate::Error::invalid(format!("a residual {:?} meets {:?}", residual.dims(), x.dims())));
    }
    let [residual, gate, x] = [residual.contiguous()?, gate.contiguous()?, x.contiguous()?];
    Ok(storage::with_slices([&residual, &gate, &x], |[residual, gate, values]| {
        storage::filled(x.shape(), |y| by_rows(y, width, |first, y| add_gated(residual, gate, values, (tokens, width), first, y)))
    })??)
}

/// x + y of feature maps, [B, C, H, W].
pub fn add_maps(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if super::gpu::holds(x) {
        return Ok(super::gpu::add_maps(x, y)?);
    }
    Ok((x + y.contiguous()?)?)
}

/// dx = gate·g. gate: [B, C]; g: [B, S, C]
pub fn gate_gradient_x(gate: &Tensor, g: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if super::gpu::holds(g) {
        return Ok(super::gpu::gate_gradient_x(gate, g)?);
    }
    let (tokens, width) = gated_sizes(gate, g)?;
    let (gate, g) = (gate.contiguous()?, g.contiguous()?);
    Ok(storage::with_slices([&gate, &g], |[gate, values]| {
        storage::filled(g.shape(), |dx| by_rows(dx, width, |first, dx| gated(gate, values, (tokens, width), first, dx)))
    })??)
}

/// dgate = Σ x·g over the tokens of each picture. x, g: [B, S, C] → [B, C]
pub fn gate_gradient(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if super::gpu::holds(x) {
        return Ok(super::gpu::gate_gradient(x, g)?);
    }
    let (b, s, c) = x.dims3()?;
    let (x, g) = (x.contiguous()?, g.contiguous()?);
    Ok(storage::with_slices([&x, &g], |[x, g]| storage::filled((b, c), |sums| sum_products(x, g, (s, c), sums)))??)
}

/// GELU, tanh approximation.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    Ok(gelu_for(x, Reads::VALUES)?.values()?.clone())
}

/// The same in the forms that its readers want.
pub fn gelu_for(x: &Tensor, reads: Reads) -> Result<Activation> {
    #[cfg(feature = "cuda")]
    if super::gpu::holds(x) {
        return Ok(super::gpu::gelu(x, reads)?);
    }
    debug_assert!(reads == Reads::VALUES, "products on the CPU read values");
    let x = x.contiguous()?;
    let y = storage::with_slice(&x, |values| storage::filled(x.shape(), |y| by_rows(y, 1, |first, y| gelu_values(&values[first..], y))))??;
    Ok(y.into())
}

/// dx = g·gelu′(x).
pub fn gelu_gradient(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if super::gpu::holds(x) {
        return Ok(super::gpu::gelu_gradient(x, g)?);
    }
    let (x, g) = (x.contiguous()?, g.contiguous()?);
    Ok(storage::with_slices([&x, &g], |[values, g]| {
        storage::filled(x.shape(), |dx| by_rows(dx, 1, |first, dx| gelu_gradients(&values[first..], &g[first..], dx)))
    })??)
}

/// Tokens a picture and their width, of x: [B, S, C] with a gate: [B, C].
fn gated_sizes(gate: &Tensor, x: &Tensor) -> candle_core::Result<(usize, usize)> {
    let (b, s, c) = x.dims3()?;
    if gate.dims() != [b, c] {
        bail!("a gate {:?} meets {:?}", gate.dims(), x.dims());
    }
    Ok((s, c))
}

vectorised! {
    /// Rows `first..` of residual + gate·x; `tokens` rows of `width` share a gate.
    fn add_gated(residual: &[f32], gate: &[f32], x: &[f32], (tokens, width): (usize, usize), first: usize, y: &mut [f32]) {
        for (row, y) in (first..).zip(y.chunks_exact_mut(width)) {
            let (residual, x) = (&residual[row * width..][..width], &x[row * width..][..width]);
            let gate = &gate[row / tokens * width..][..width];
            for i in 0..width {
                y[i] = residual[i] + gate[i] * x[i];
            }
        }
    }
}

vectorised! {
    /// Rows `first..` of gate·g.
    fn gated(gate: &[f32], g: &[f32], (tokens, width): (usize, usize), first: usize, dx: &mut [f32]) {
        for (row, dx) in (first..).zip(dx.chunks_exact_mut(width)) {
            let (gate, g) = (&gate[row / tokens * width..][..width], &g[row * width..][..width]);
            for i in 0..width {
                dx[i] = gate[i] * g[i];
            }
        }
    }
}

vectorised! {
    /// Σ x·g over the tokens of each picture.
    fn sum_products(x: &[f32], g: &[f32], (tokens, width): (usize, usize), sums: &mut [f32]) {
        sums.fill(0.0);
        for (row, (x, g)) in x.chunks_exact(width).zip(g.chunks_exact(width)).enumerate() {
            let sums = &mut sums[row / tokens * width..][..width];
            for i in 0..width {
                sums[i] += x[i] * g[i];
            }
        }
    }
}

const SQRT_2_OVER_PI: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

/// (1 + tanh u) / 2 = 1 / (1 + e⁻²ᵘ), which loses no digits where tanh u is near −1.
#[inline(always)]
fn gate_of_gelu(x: f32) -> f32 {
    let u = SQRT_2_OVER_PI * x * (1.0 + CUBIC * x * x);
    1.0 / (1.0 + exp(-2.0 * u))
}

vectorised! {
    pub(super) fn gelu_in_place(values: &mut [f32]) {
        for x in values {
            *x *= gate_of_gelu(*x);
        }
    }
}

vectorised! {
    fn gelu_values(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * gate_of_gelu(x);
        }
    }
}

vectorised! {
    fn gelu_gradients(x: &[f32], g: &[f32], dx: &mut [f32]) {
        for ((dx, &x), &g) in dx.iter_mut().zip(x).zip(g) {
            let s = gate_of_gelu(x);
            let slope = 2.0 * SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x);
            *dx = g * (s + x * s * (1.0 - s) * slope);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{plain, testing::*};

    #[test]
    fn gate_residual_agrees_with_plain() {
        for (seed, (b, s, c)) in [(1, 1, 48), (1, 129, 250), (3, 7, 64)].into_iter().enumerate() {
            let seed = seed as u64 * 10;
            let inputs = [tensor(seed, (b, s, c)), tensor(seed + 1, (b, c)), tensor(seed + 2, (b, s, c))];
            compare(
                &format!("gate_residual {b} {s} {c}"),
                &inputs,
                |x| gate_residual(&x[0], &x[1], &x[2]).unwrap(),
                |x, g| vec![g.clone(), gate_gradient(&x[2], g).unwrap(), gate_gradient_x(&x[1], g).unwrap()],
                |x| plain::gate_residual(&x[0], &x[1], &x[2]).unwrap(),
            );
        }
    }

    #[test]
    fn gelu_agrees_with_plain() {
        for (seed, n) in [1, 129, 70_000].into_iter().enumerate() {
            let x = (tensor(seed as u64, n) * 4.0).unwrap();
            compare(
                &format!("gelu {n}"),
                &[x],
                |x| gelu(&x[0]).unwrap(),
                |x, g| vec![gelu_gradient(&x[0], g).unwrap()],
                |x| plain::gelu(&x[0]).unwrap(),
            );
        }
    }
}
