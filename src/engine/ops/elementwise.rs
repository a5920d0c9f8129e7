//! GELU and the gated residual, forward and backward.

use super::simd::{exp, vectorised};
use super::storage::{self, by_rows, output};
use crate::Result;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Shape, Tensor};

/// residual + gate·x. residual, x: [B, S, C]; gate: [B, C].
pub fn gate_residual(residual: &Tensor, gate: &Tensor, x: &Tensor) -> Result<Tensor> {
    if !storage::on_cpu(&[residual, gate, x]) {
        return Ok(super::plain::gate_residual(residual, gate, x)?);
    }
    Ok(residual.contiguous()?.apply_op3(&gate.contiguous()?, &x.contiguous()?, GateResidual)?)
}

/// GELU, tanh approximation.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if !storage::on_cpu(&[x]) {
        return Ok(super::plain::gelu(x)?);
    }
    Ok(x.contiguous()?.apply_op1(Gelu)?)
}

struct GateResidual;

impl CustomOp3 for GateResidual {
    fn name(&self) -> &'static str {
        "gate-residual"
    }

    fn cpu_fwd(
        &self,
        residual: &CpuStorage,
        lr: &Layout,
        gate: &CpuStorage,
        lg: &Layout,
        x: &CpuStorage,
        lx: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (b, s, c) = lx.shape().dims3()?;
        if lg.shape().dims() != [b, c] || lr.shape() != lx.shape() {
            candle_core::bail!("gate_residual of {:?}, {:?} and {:?}", lr.shape(), lg.shape(), lx.shape());
        }
        let (residual, gate, x) = (storage::slice(residual, lr)?, storage::slice(gate, lg)?, storage::slice(x, lx)?);
        let y = output(x.len(), |y| by_rows(y, c, |first, y| add_gated(residual, gate, x, (s, c), first, y)));
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }

    fn bwd(
        &self,
        residual: &Tensor,
        gate: &Tensor,
        x: &Tensor,
        _y: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (b, s, c) = x.dims3()?;
        let gradient = gradient.contiguous()?;
        let dx = || {
            storage::with_slices([gate, &gradient], |[gate, g]| {
                output(g.len(), |dx| by_rows(dx, c, |first, dx| gated(gate, g, (s, c), first, dx)))
            })
        };
        let dgate = || storage::with_slices([x, &gradient], |[x, g]| output(b * c, |dgate| sum_products(x, g, (s, c), dgate)));
        let dx = x.track_op().then(|| storage::from_vec(dx()?, x.shape())).transpose()?;
        let dgate = gate.track_op().then(|| storage::from_vec(dgate()?, gate.shape())).transpose()?;
        Ok((residual.track_op().then_some(gradient), dgate, dx))
    }
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

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = storage::slice(x, layout)?;
        Ok((CpuStorage::F32(output(x.len(), |y| by_rows(y, 1, |first, y| gelu_values(&x[first..], y)))), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let gradient = gradient.contiguous()?;
        let dx = storage::with_slices([x, &gradient], |[x, g]| {
            output(x.len(), |dx| by_rows(dx, 1, |first, dx| gelu_gradients(&x[first..], &g[first..], dx)))
        })?;
        storage::from_vec(dx, x.shape()).map(Some)
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
                |x| plain::gate_residual(&x[0], &x[1], &x[2]).unwrap(),
            );
        }
    }

    #[test]
    fn gelu_agrees_with_plain() {
        for (seed, n) in [1, 129, 70_000].into_iter().enumerate() {
            let x = (tensor(seed as u64, n) * 4.0).unwrap();
            compare(&format!("gelu {n}"), &[x], |x| gelu(&x[0]).unwrap(), |x| plain::gelu(&x[0]).unwrap());
        }
    }
}
