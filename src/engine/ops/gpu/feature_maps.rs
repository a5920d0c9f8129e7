//! The VAE's operations. Their tensors are [B, C, H, W] as everywhere, but lie in memory as [B, H, W, C], as tensor cores read them: each
//! operation leaves its result so, and finds its input so, but for the first one of a VAE, whose input is copied into that order.

use super::{holds, lend};
use crate::cuda::{self, Arg, conv, conv::Sweep};
use candle_core::{CudaStorage, DType, Result, Tensor, bail};

/// As it lies in memory: contiguous [B, H, W, C]. A copy only of what no operation here has made.
fn channels_last(x: &Tensor) -> Result<Tensor> {
    x.permute((0, 2, 3, 1))?.contiguous()
}

/// What an operation has made, as [B, C, H, W].
fn picture(maps: CudaStorage, [b, h, w, c]: [usize; 4]) -> Result<Tensor> {
    cuda::tensor(maps, (b, h, w, c)).permute((0, 3, 1, 2))
}

/// A convolution's weights in the order that cuDNN reads, channels filled up with zeros to multiples of eight.
pub struct ConvKernel {
    /// [out, k, k, in] bf16
    weight: Tensor,
    /// [out] bf16
    bias: Tensor,
    inputs: usize,
    outputs: usize,
}

impl ConvKernel {
    /// weight: [out, in, k, k] bf16; bias: [out] bf16
    pub fn new(weight: &Tensor, bias: &Tensor) -> Result<Self> {
        let (outputs, inputs, ..) = weight.dims4()?;
        let weight = channels_last(&filled_up(&filled_up(weight, 0)?, 1)?)?;
        Ok(Self { weight, bias: filled_up(bias, 0)?.contiguous()?, inputs, outputs })
    }
}

/// Zeros after the channels, which lie along `axis`.
fn filled_up(x: &Tensor, axis: usize) -> Result<Tensor> {
    let channels = x.dim(axis)?;
    x.pad_with_zeros(axis, 0, channels.next_multiple_of(conv::CHANNELS) - channels)
}

/// x: [B, in, H, W]; residual: [B, out, H', W']; bf16.
pub fn conv2d(
    x: &Tensor,
    kernel: &ConvKernel,
    stride: usize,
    (before, after): (usize, usize),
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    if x.dim(1)? != kernel.inputs {
        bail!("a convolution of {} channels was given {:?}", kernel.inputs, x.shape());
    }
    let read = |x: &Tensor| channels_last(&filled_up(x, 1)?);
    let (mut x, residual) = (read(x)?, residual.map(read).transpose()?);
    let mut sweep = Sweep { stride, padding: before };
    // cuDNN pads evenly.
    if before != after {
        x = x.pad_with_zeros(1, before, after)?.pad_with_zeros(2, before, after)?;
        sweep.padding = 0;
    }
    let run = |[x, weight, bias]: [Arg; 3], residual: Option<Arg>| conv::conv2d(x, weight, bias, residual, sweep);
    let (weight, bias) = (&kernel.weight, &kernel.bias);
    let (y, size) = match &residual {
        Some(residual) => lend([&x, weight, bias, residual], |[x, weight, bias, residual]| run([x, weight, bias], Some(residual)))?,
        None => lend([&x, weight, bias], |arguments| run(arguments, None))?,
    };
    picture(y, size)?.narrow(1, 0, kernel.outputs)
}

pub fn group_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: usize, epsilon: f64, silu: bool) -> Result<Tensor> {
    let x = channels_last(x)?;
    let y = lend([&x, weight, bias], |[x, weight, bias]| cuda::group_norm::group_norm(x, weight, bias, groups, epsilon as f32, silu))?;
    picture(y, x.dims4()?.into())
}

/// The four 2×2 kernels that together read the small picture as `weight` [out, in, 3, 3] reads the one enlarged by repeating pixels, 4/9 of
/// its arithmetic: an even row of the result sees two rows of the small picture, the second of them twice; an odd row the first. None for
/// what is not in bf16 on a GPU, or has channels that cannot lie phase beside phase.
pub fn phases(weight: &Tensor, bias: &Tensor) -> Result<Option<ConvKernel>> {
    if !(holds(weight) && weight.dtype() == DType::BF16 && weight.dim(0)?.is_multiple_of(conv::CHANNELS)) {
        return Ok(None);
    }
    let taps = |x: &Tensor, axis: usize| -> Result<[Tensor; 2]> {
        let [first, second, third] = [x.narrow(axis, 0, 1)?, x.narrow(axis, 1, 1)?, x.narrow(axis, 2, 1)?];
        Ok([Tensor::cat(&[&first, &(&second + &third)?], axis)?, Tensor::cat(&[&(first + second)?, &third], axis)?])
    };
    let exact = weight.to_dtype(DType::F32)?;
    let [even, odd] = taps(&exact, 2)?;
    let kernels = [taps(&even, 3)?, taps(&odd, 3)?].concat();
    ConvKernel::new(&Tensor::cat(&kernels, 0)?.to_dtype(DType::BF16)?, &Tensor::cat(&[bias; 4], 0)?).map(Some)
}

/// x: [B, in, H, W] → [B, out, 2·H, 2·W]
pub fn enlarging_conv2d(x: &Tensor, phases: &ConvKernel) -> Result<Tensor> {
    let parts = channels_last(&conv2d(x, phases, 1, (1, 1), None)?)?;
    let (b, h, w, c) = parts.dims4()?;
    picture(lend([&parts], |[parts]| cuda::upsample::join_phases(parts))?, [b, 2 * (h - 1), 2 * (w - 1), c / 4])
}

pub fn add_maps(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    (channels_last(x)? + channels_last(y)?)?.permute((0, 3, 1, 2))
}
