//! GroupNorm over channels-last feature maps and the SiLU that usually follows it (twin: `ops::plain::group_norm`).

use super::Arg;
use super::context::Context;
use super::kernels::{self, Picture, code, queued};
use super::storage::{base, contiguous, uninitialised};
use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, DType, Result};

/// A block's threads hold eight channels each.
const MOST_CHANNELS: usize = 2048;

/// x: contiguous [B, H, W, C] bf16 or f32; weight, bias: [C] f32.
///
/// # Errors
/// Groups that do not divide C, or more than 2048 channels.
pub fn group_norm(x: Arg, weight: Arg, bias: Arg, groups: usize, epsilon: f32, silu: bool) -> Result<CudaStorage> {
    let context = Context::of(&x.0.device)?;
    let (dtype, (batch, height, width, channels)) = (x.0.dtype(), x.1.shape().dims4()?);
    if groups == 0 || channels == 0 || channels % groups != 0 || channels > MOST_CHANNELS {
        candle_core::bail!("{channels} channels do not make {groups} groups of equal size, or are more than {MOST_CHANNELS}");
    }
    let (elements, pixels) = (x.1.shape().elem_count(), height * width);
    let from = contiguous(x, dtype, elements, "x")?;
    let weight = contiguous(weight, DType::F32, channels, "group_norm's weight")?.cast();
    let bias = contiguous(bias, DType::F32, channels, "group_norm's bias")?.cast();
    let chunks = chunks(pixels, channels);
    let partial = uninitialised(&context.device, 3 * batch * groups * chunks, DType::F32)?;
    let factors = uninitialised(&context.device, 2 * batch * channels, DType::F32)?;
    let y = uninitialised(&context.device, elements, dtype)?;
    if elements > 0 {
        let of = Picture {
            batch: batch as i32,
            channels: channels as i32,
            groups: groups as i32,
            dtype: code(dtype)?,
            pixels: pixels as i64,
            epsilon,
            silu: i32::from(silu),
        };
        let (partial, factors, y, stream) = (base(&partial), base(&factors).cast(), base(&y), context.stream());
        // SAFETY: x, y, weight and bias have the sizes just checked, the others those that `kernels.h` names.
        let error = unsafe { kernels::atelier_group_norm(of, from, weight, bias, chunks as i32, partial, factors, y, stream) };
        queued(error, "group_norm")?;
    }
    Ok(y)
}

/// Blocks that a picture is shared among, none without pixels: of the largest GPU every multiprocessor gets sixteen, three waves of them.
fn chunks(pixels: usize, channels: usize) -> usize {
    const MOST: usize = 2112;
    /// Pixels that a thread reads in each, unless there are too few.
    const EACH: usize = 8;
    let rows = 256 / channels.div_ceil(8);
    let share = (rows * EACH).max(pixels.div_ceil(MOST));
    pixels.div_ceil(share).max(1)
}
