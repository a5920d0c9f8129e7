//! Picture → moments of the latents.

use super::{
    config::Config,
    layers::{Conv2d, GroupNorm},
    resnet::{MidBlock, ResnetBlock},
};
use crate::{Result, checkpoint::Keys};
use candle_core::Tensor;

pub struct Encoder {
    conv_in: Conv2d,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

struct DownBlock {
    resnets: Vec<ResnetBlock>,
    downsampler: Option<Conv2d>,
}

impl Encoder {
    pub fn load(keys: &Keys, config: &Config) -> Result<Self> {
        let (channels, groups) = (&config.block_out_channels, config.norm_num_groups);
        let down = |i: usize| DownBlock::load(&keys.at("down_blocks").at(i), config, i);
        Ok(Self {
            conv_in: Conv2d::load(&keys.at("conv_in"), 3, channels[0], 3)?,
            down_blocks: (0..channels.len()).map(down).collect::<Result<_>>()?,
            mid_block: MidBlock::load(&keys.at("mid_block"), config)?,
            conv_norm_out: GroupNorm::load(&keys.at("conv_norm_out"), config.deepest(), groups)?,
            conv_out: Conv2d::load(&keys.at("conv_out"), config.deepest(), 2 * config.latent_channels, 3)?,
        })
    }

    /// [B, 3, H, W] → [B, 2·16, H/8, W/8]: means, then log variances
    pub fn forward(&self, pictures: &Tensor) -> Result<Tensor> {
        let mut x = self.conv_in.forward(pictures)?;
        for block in &self.down_blocks {
            x = block.forward(x)?;
        }
        let x = self.mid_block.forward(&x)?;
        self.conv_out.forward(&self.conv_norm_out.forward_silu(&x)?)
    }
}

impl DownBlock {
    fn load(keys: &Keys, config: &Config, i: usize) -> Result<Self> {
        let channels = &config.block_out_channels;
        let (inputs, last) = (channels[i.saturating_sub(1)], i + 1 == channels.len());
        let downsampler = || Conv2d::load_halving(&keys.at("downsamplers.0.conv"), channels[i]);
        Ok(Self {
            resnets: ResnetBlock::load_chain(keys, inputs, channels[i], config.layers_per_block, config.norm_num_groups)?,
            downsampler: (!last).then(downsampler).transpose()?,
        })
    }

    fn forward(&self, mut x: Tensor) -> Result<Tensor> {
        for resnet in &self.resnets {
            x = resnet.forward(&x)?;
        }
        match &self.downsampler {
            Some(conv) => conv.forward(&x),
            None => Ok(x),
        }
    }
}
