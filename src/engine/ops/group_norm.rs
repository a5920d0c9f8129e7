//! Group norm and the SiLU that usually follows it. For inference: it has no gradient.

use super::simd::{exp, sum, vectorised};
use super::storage::{self, output};
use crate::Result;
use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Tensor};
use rayon::prelude::*;

/// GroupNorm, then SiLU if `silu`. x: [B, C, H, W]; weight, bias: [C]; `groups` divides C.
pub fn group_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: usize, epsilon: f64, silu: bool) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if super::gpu::holds(x) {
        return Ok(super::gpu::group_norm(x, weight, bias, groups, epsilon, silu)?);
    }
    if !storage::on_cpu(&[x, weight, bias]) {
        return Ok(super::plain::group_norm(x, weight, bias, groups, epsilon, silu)?);
    }
    let op = GroupNorm { groups, epsilon: epsilon as f32, silu };
    Ok(x.contiguous()?.apply_op3_no_bwd(&weight.contiguous()?, &bias.contiguous()?, &op)?)
}

struct GroupNorm {
    groups: usize,
    epsilon: f32,
    silu: bool,
}

impl CustomOp3 for GroupNorm {
    fn name(&self) -> &'static str {
        "group-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        weight: &CpuStorage,
        lw: &Layout,
        bias: &CpuStorage,
        lb: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (_, c, h, w) = lx.shape().dims4()?;
        if self.groups == 0 || c % self.groups != 0 || lw.shape().dims() != [c] || lb.shape().dims() != [c] {
            candle_core::bail!("group_norm of {:?} in {} groups with {:?} and {:?}", lx.shape(), self.groups, lw.shape(), lb.shape());
        }
        let (x, weight, bias) = (storage::slice(x, lx)?, storage::slice(weight, lw)?, storage::slice(bias, lb)?);
        let channels = c / self.groups;
        let size = channels * h * w;
        let y = output(x.len(), |y| {
            x.par_chunks_exact(size).zip(y.par_chunks_exact_mut(size)).enumerate().for_each(|(index, (x, y))| {
                let first = index % self.groups * channels;
                normalise(x, [&weight[first..][..channels], &bias[first..][..channels]], self.epsilon, self.silu, y);
            });
        });
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }
}

/// Mean of f(x), summed in f64 over short runs in f32.
#[inline(always)]
fn mean(x: &[f32], f: impl Fn(f32) -> f32 + Copy) -> f32 {
    let mut total = 0.0;
    for run in x.chunks(1 << 12) {
        total += sum(run, f) as f64;
    }
    (total / x.len() as f64) as f32
}

vectorised! {
    /// One group: a weight and a bias for each of its channels.
    fn normalise(x: &[f32], [weight, bias]: [&[f32]; 2], epsilon: f32, silu: bool, y: &mut [f32]) {
        let average = mean(x, |x| x);
        let inverse = 1.0 / (mean(x, |x| (x - average) * (x - average)) + epsilon).sqrt();
        let pixels = x.len() / weight.len();
        for (channel, (x, y)) in x.chunks_exact(pixels).zip(y.chunks_exact_mut(pixels)).enumerate() {
            let (factor, offset) = (inverse * weight[channel], bias[channel] - average * inverse * weight[channel]);
            for (y, &x) in y.iter_mut().zip(x) {
                *y = x * factor + offset;
            }
            if silu {
                for y in y.iter_mut() {
                    *y /= 1.0 + exp(-*y);
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
        for (seed, (shape, groups)) in [((1, 8, 1, 1), 4), ((3, 48, 5, 7), 16), ((1, 32, 64, 40), 2)].into_iter().enumerate() {
            let seed = seed as u64 * 10;
            let (x, weight, bias) = ((tensor(seed, shape) + 3.0).unwrap(), tensor(seed + 1, shape.1), tensor(seed + 2, shape.1));
            for silu in [false, true] {
                let ours = group_norm(&x, &weight, &bias, groups, 1e-6, silu).unwrap();
                let expected = plain::group_norm(&x, &weight, &bias, groups, 1e-6, silu).unwrap();
                assert_close(&format!("group_norm {shape:?} {silu}"), &ours, &expected, 2e-5);
            }
        }
    }
}
