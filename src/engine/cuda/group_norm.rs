//! GroupNorm and the SiLU that usually follows it (twin: `ops::plain::group_norm`).

use super::Arg;
use super::context::Context;
use super::kernels::{self, Picture, code, queued};
use super::storage::{base, contiguous, uninitialised};
use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, DType, Result};

/// x: contiguous [B, C, H, W] bf16 or f32; weight, bias: [C] f32.
pub fn group_norm(x: Arg, weight: Arg, bias: Arg, groups: usize, epsilon: f32, silu: bool) -> Result<CudaStorage> {
    let context = Context::of(&x.0.device)?;
    let (dtype, (batch, channels, height, width)) = (x.0.dtype(), x.1.shape().dims4()?);
    if groups == 0 || channels % groups != 0 {
        candle_core::bail!("{channels} channels do not make {groups} groups of equal size");
    }
    let (elements, group) = (x.1.shape().elem_count(), channels / groups * height * width);
    let from = contiguous(x, dtype, elements, "x")?;
    let weight = contiguous(weight, DType::F32, channels, "group_norm's weight")?.cast();
    let bias = contiguous(bias, DType::F32, channels, "group_norm's bias")?.cast();
    // A block of 256 threads reads 16 units of eight elements in each, unless the groups are few and large.
    let chunks = group.div_ceil(256 * 8 * 16).clamp(1, 1024);
    let partial = uninitialised(&context.device, 3 * batch * groups * chunks, DType::F32)?;
    let moments = uninitialised(&context.device, 2 * batch * groups, DType::F32)?;
    let y = uninitialised(&context.device, elements, dtype)?;
    if elements > 0 {
        let of = Picture {
            batch: batch as i32,
            channels: channels as i32,
            groups: groups as i32,
            dtype: code(dtype)?,
            pixels: (height * width) as i64,
            epsilon,
            silu: i32::from(silu),
        };
        let (partial, moments) = (base(&partial).cast(), base(&moments).cast());
        // SAFETY: x, y, weight and bias have the sizes just checked, the others those that `kernels.h` names.
        let error =
            unsafe { kernels::atelier_group_norm(of, from, weight, bias, chunks as i32, partial, moments, base(&y), context.stream()) };
        queued(error, "group_norm")?;
    }
    Ok(y)
}
