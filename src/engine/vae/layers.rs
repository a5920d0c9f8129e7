//! Convolution and group norm, the two layers that the VAE is made of.

use crate::{Result, checkpoint::Keys};
use candle_core::Tensor;

/// The epsilon of every group norm in a diffusers VAE.
const EPSILON: f64 = 1e-6;

pub struct Conv2d {
    /// [out, in, k, k]
    weight: Tensor,
    /// [out]
    bias: Tensor,
    stride: usize,
    padding: usize,
}

impl Conv2d {
    /// Stride 1, and the padding that keeps the size.
    pub fn load(keys: &Keys, inputs: usize, outputs: usize, kernel: usize) -> Result<Self> {
        let weight = keys.take_f32("weight", &[outputs, inputs, kernel, kernel])?;
        Ok(Self { weight, bias: keys.take_f32("bias", &[outputs])?, stride: 1, padding: kernel / 2 })
    }

    /// Stride 2; the caller pads.
    pub fn load_halving(keys: &Keys, channels: usize) -> Result<Self> {
        Ok(Self { stride: 2, padding: 0, ..Self::load(keys, channels, channels, 3)? })
    }

    /// x: [B, in, H, W] → [B, out, H/stride, W/stride]
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        conv2d(x, &self.weight, &self.bias, self.stride, self.padding)
    }
}

pub struct GroupNorm {
    /// [C] each
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
        group_norm(x, &self.weight, &self.bias, self.groups)
    }

    /// SiLU of the norm.
    pub fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        group_norm_silu(x, &self.weight, &self.bias, self.groups)
    }
}

fn conv2d(x: &Tensor, weight: &Tensor, bias: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    let y = x.conv2d(weight, padding, stride, 1, 1)?;
    Ok(y.broadcast_add(&bias.reshape((1, (), 1, 1))?)?)
}

fn group_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: usize) -> Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    let grouped = x.reshape((b, groups, c / groups * h * w))?;
    let centred = grouped.broadcast_sub(&grouped.mean_keepdim(2)?)?;
    let variance = centred.sqr()?.mean_keepdim(2)?;
    let normal = centred.broadcast_div(&(variance + EPSILON)?.sqrt()?)?.reshape((b, c, h, w))?;
    Ok(normal.broadcast_mul(&weight.reshape((1, c, 1, 1))?)?.broadcast_add(&bias.reshape((1, c, 1, 1))?)?)
}

fn group_norm_silu(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: usize) -> Result<Tensor> {
    Ok(group_norm(x, weight, bias, groups)?.silu()?)
}
