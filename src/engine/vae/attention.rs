//! The one attention of each half: a single head over all places of the coarsest level.

use super::layers::GroupNorm;
use crate::{Result, checkpoint::Keys, linear::Linear, ops};
use candle_core::{D, Tensor};

pub struct Attention {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
}

impl Attention {
    pub fn load(keys: &Keys, channels: usize, groups: usize) -> Result<Self> {
        let project = |name: &str| Linear::load(&keys.at(name), channels, channels);
        Ok(Self {
            group_norm: GroupNorm::load(&keys.at("group_norm"), channels, groups)?,
            to_q: project("to_q")?,
            to_k: project("to_k")?,
            to_v: project("to_v")?,
            to_out: project("to_out.0")?,
        })
    }

    /// x: [B, C, H, W] → x + attention
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, c, h, w) = x.dims4()?;
        // (b, c, h, w) -> (b, h·w, c)
        let places = self.group_norm.forward(x)?.permute((0, 2, 3, 1))?.reshape((b, h * w, c))?;
        let attended = one_head(&self.to_q.apply(&places)?, &self.to_k.apply(&places)?, &self.to_v.apply(&places)?)?;
        // (b, h·w, c) -> (b, c, h, w)
        let y = self.to_out.apply(&attended)?.reshape((b, h, w, c))?.permute((0, 3, 1, 2))?;
        ops::add_maps(x, &y)
    }
}

/// softmax(q·kᵀ / √C)·v. q, k, v: [B, S, C] → [B, S, C]
fn one_head(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    if !q.device().is_cpu() {
        return in_slices(q, k, v);
    }
    let head = |x: &Tensor| x.unsqueeze(2);
    ops::attention(&head(q)?, &head(k)?, &head(v)?)
}

/// For GPUs, whose fused attention stops at 256 channels a head: some queries at a time, so that the scores of 1024×1024 pixels take
/// 67 MB in bf16 instead of 537.
fn in_slices(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    const QUERIES: usize = 2048;
    let (_, places, channels) = q.dims3()?;
    let (k, scale) = (k.t()?, (channels as f64).powf(-0.5));
    let slice = |start: usize| -> Result<Tensor> {
        let scores = q.narrow(1, start, QUERIES.min(places - start))?.contiguous()?.matmul(&k)?;
        Ok(ops::softmax(scores, scale)?.matmul(v)?)
    };
    let slices = (0..places).step_by(QUERIES).map(slice).collect::<Result<Vec<_>>>()?;
    Ok(Tensor::cat(&slices, D::Minus2)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn slices_are_the_whole() {
        let tensor = || Tensor::randn(0f32, 1.0, (1, 2500, 32), &Device::Cpu).unwrap();
        let (q, k, v) = (tensor(), tensor(), tensor());
        let difference = (in_slices(&q, &k, &v).unwrap() - one_head(&q, &k, &v).unwrap()).unwrap();
        let largest = difference.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(largest < 1e-4, "{largest}");
    }
}
