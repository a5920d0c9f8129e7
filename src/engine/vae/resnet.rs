//! The residual block (`ResnetBlock2D` without time embedding) and the middle of both halves (`UNetMidBlock2D`).

use super::{
    attention::Attention,
    config::Config,
    layers::{Conv2d, GroupNorm},
};
use crate::{Result, checkpoint::Keys};
use candle_core::Tensor;

pub struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
}

impl ResnetBlock {
    pub fn load(keys: &Keys, inputs: usize, outputs: usize, groups: usize) -> Result<Self> {
        let shortcut = || Conv2d::load(&keys.at("conv_shortcut"), inputs, outputs, 1);
        Ok(Self {
            norm1: GroupNorm::load(&keys.at("norm1"), inputs, groups)?,
            conv1: Conv2d::load(&keys.at("conv1"), inputs, outputs, 3)?,
            norm2: GroupNorm::load(&keys.at("norm2"), outputs, groups)?,
            conv2: Conv2d::load(&keys.at("conv2"), outputs, outputs, 3)?,
            conv_shortcut: (inputs != outputs).then(shortcut).transpose()?,
        })
    }

    /// `count` blocks under `keys.resnets`, the first of which changes the channels.
    pub fn load_chain(keys: &Keys, inputs: usize, outputs: usize, count: usize, groups: usize) -> Result<Vec<Self>> {
        let width = |i| if i == 0 { inputs } else { outputs };
        (0..count).map(|i| Self::load(&keys.at("resnets").at(i), width(i), outputs, groups)).collect()
    }

    /// x: [B, in, H, W] → [B, out, H, W]
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        // One after the other, so that each frees what it read: nothing in a VAE takes more memory.
        let mut y = self.norm1.forward_silu(x)?;
        y = self.conv1.forward(&y)?;
        y = self.norm2.forward_silu(&y)?;
        match &self.conv_shortcut {
            Some(conv) => self.conv2.forward_added(&y, &conv.forward(x)?),
            None => self.conv2.forward_added(&y, x),
        }
    }
}

/// Residual block, attention, residual block.
pub struct MidBlock {
    resnets: Vec<ResnetBlock>,
    attention: Option<Attention>,
}

impl MidBlock {
    pub fn load(keys: &Keys, config: &Config) -> Result<Self> {
        let (channels, groups) = (config.deepest(), config.norm_num_groups);
        let attention = || Attention::load(&keys.at("attentions.0"), channels, groups);
        Ok(Self {
            resnets: ResnetBlock::load_chain(keys, channels, channels, 2, groups)?,
            attention: config.mid_block_add_attention.then(attention).transpose()?,
        })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.resnets[0].forward(x)?;
        if let Some(attention) = &self.attention {
            x = attention.forward(&x)?;
        }
        self.resnets[1].forward(&x)
    }
}
