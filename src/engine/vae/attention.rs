//! The one attention of each half: a single head over all places of the coarsest level.

use super::layers::GroupNorm;
use crate::{Result, checkpoint::Keys, linear::Linear, ops};
use candle_core::Tensor;

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
        let places = self.group_norm.forward(x)?.reshape((b, c, h * w))?.transpose(1, 2)?.contiguous()?;
        let one_head = |linear: &Linear| -> Result<Tensor> { Ok(linear.apply(&places)?.unsqueeze(2)?) };
        let attended = ops::attention(&one_head(&self.to_q)?, &one_head(&self.to_k)?, &one_head(&self.to_v)?)?;
        // (b, h·w, c) -> (b, c, h, w)
        let y = self.to_out.apply(&attended)?.transpose(1, 2)?.reshape((b, c, h, w))?;
        Ok((x + y)?)
    }
}
