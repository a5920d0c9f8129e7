//! Convolutions and group norm, the layers that the VAE is made of.

use crate::{Result, checkpoint::Keys, ops};
use candle_core::Tensor;

/// The epsilon of every group norm in a diffusers VAE.
const EPSILON: f64 = 1e-6;

pub struct Conv2d {
    weight: ops::ConvWeight,
    stride: usize,
    /// Zeros before and after, on both axes.
    padding: (usize, usize),
}

impl Conv2d {
    /// Stride 1, and the padding that keeps the size.
    pub fn load(keys: &Keys, inputs: usize, outputs: usize, kernel: usize) -> Result<Self> {
        let weight = keys.take_active("weight", &[outputs, inputs, kernel, kernel])?;
        let weight = ops::ConvWeight::new(&weight, &keys.take_active("bias", &[outputs])?)?;
        Ok(Self { weight, stride: 1, padding: (kernel / 2, kernel / 2) })
    }

    /// Stride 2 and zeros below and to the right only, as `Downsample2D` with padding 0.
    pub fn load_halving(keys: &Keys, channels: usize) -> Result<Self> {
        Ok(Self { stride: 2, padding: (0, 1), ..Self::load(keys, channels, channels, 3)? })
    }

    /// x: [B, in, H, W] → [B, out, H/stride, W/stride]
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::conv2d(x, &self.weight, self.stride, self.padding)
    }

    /// residual + convolution, for stride 1. residual: [B, out, H, W]
    pub fn forward_added(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        debug_assert_eq!(self.stride, 1);
        ops::add_conv2d(residual, x, &self.weight, self.padding.0)
    }
}

/// Twice the size by repeating pixels, then a convolution (`Upsample2D`).
pub struct Upsampler(ops::EnlargingWeight);

impl Upsampler {
    pub fn load(keys: &Keys, channels: usize) -> Result<Self> {
        let weight = keys.take_active("weight", &[channels, channels, 3, 3])?;
        Ok(Self(ops::EnlargingWeight::new(&weight, &keys.take_active("bias", &[channels])?)?))
    }

    /// x: [B, C, H, W] → [B, C, 2·H, 2·W]
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::enlarging_conv2d(x, &self.0)
    }
}

pub struct GroupNorm {
    /// [C] each, in f32 whatever x is
    weight: Tensor,
    bias: Tensor,
    groups: usize,
}

impl GroupNorm {
    pub fn load(keys: &Keys, channels: usize, groups: usize) -> Result<Self> {
        Ok(Self { weight: keys.take_f32("weight", &[channels])?, bias: keys.take_f32("bias", &[channels])?, groups })
    }

    /// x: [B, C, H, W]
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::group_norm(x, &self.weight, &self.bias, self.groups, EPSILON, false)
    }

    /// SiLU of the norm.
    pub fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        ops::group_norm(x, &self.weight, &self.bias, self.groups, EPSILON, true)
    }
}
