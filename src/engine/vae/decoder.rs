//! Latents → picture.

use super::{
    config::Config,
    layers::{Conv2d, GroupNorm, Upsampler},
    resnet::{MidBlock, ResnetBlock},
};
use crate::{Result, checkpoint::Keys};
use candle_core::Tensor;

pub struct Decoder {
    conv_in: Conv2d,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

struct UpBlock {
    resnets: Vec<ResnetBlock>,
    upsampler: Option<Upsampler>,
}

impl Decoder {
    pub fn load(keys: &Keys, config: &Config) -> Result<Self> {
        let (finest, groups) = (config.block_out_channels[0], config.norm_num_groups);
        let up = |i: usize| UpBlock::load(&keys.at("up_blocks").at(i), config, i);
        Ok(Self {
            conv_in: Conv2d::load(&keys.at("conv_in"), config.latent_channels, config.deepest(), 3)?,
            mid_block: MidBlock::load(&keys.at("mid_block"), config)?,
            up_blocks: (0..config.block_out_channels.len()).map(up).collect::<Result<_>>()?,
            conv_norm_out: GroupNorm::load(&keys.at("conv_norm_out"), finest, groups)?,
            conv_out: Conv2d::load(&keys.at("conv_out"), finest, 3, 3)?,
        })
    }

    /// [B, 16, H/8, W/8] → [B, 3, H, W]
    pub fn forward(&self, z: &Tensor) -> Result<Tensor> {
        let mut x = self.mid_block.forward(&self.conv_in.forward(z)?)?;
        for block in &self.up_blocks {
            x = block.forward(x)?;
        }
        self.conv_out.forward(&self.conv_norm_out.forward_silu(&x)?)
    }
}

impl UpBlock {
    /// Block `i` counted from the coarsest level, which is the last of `block_out_channels`.
    fn load(keys: &Keys, config: &Config, i: usize) -> Result<Self> {
        let channels: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
        let (inputs, last) = (channels[i.saturating_sub(1)], i + 1 == channels.len());
        let upsampler = || Upsampler::load(&keys.at("upsamplers.0.conv"), channels[i]);
        Ok(Self {
            resnets: ResnetBlock::load_chain(keys, inputs, channels[i], config.layers_per_block + 1, config.norm_num_groups)?,
            upsampler: (!last).then(upsampler).transpose()?,
        })
    }

    fn forward(&self, mut x: Tensor) -> Result<Tensor> {
        for resnet in &self.resnets {
            x = resnet.forward(&x)?;
        }
        match &self.upsampler {
            Some(upsampler) => upsampler.forward(&x),
            None => Ok(x),
        }
    }
}
