//! RMSNorm and rotary embedding of queries and keys inside a packed qkv (twin: `ops::plain::rms_norm_rope`, epsilon 1e-6).

use super::context::Context;
use super::kernels::{self, Heads, code, queued};
use super::storage::{base, contiguous, uninitialised};
use super::{Arg, Out};
use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, DType, Layout, Result};
use std::ffi::c_void;

/// What the heads are normalised and turned with. Angles: [S, D/2] f32, weights: [D] f32, all contiguous.
#[derive(Clone, Copy)]
pub struct QkNormRope<'a> {
    /// H; D is that of `cos`, twice.
    pub heads: usize,
    /// Weights of q and of k in rows `..text_tokens`.
    pub text: [Arg<'a>; 2],
    /// Weights of q and of k in the other rows.
    pub picture: [Arg<'a>; 2],
    pub text_tokens: usize,
    pub cos: Arg<'a>,
    pub sin: Arg<'a>,
}

/// qkv: contiguous [B, S, 3, H, D] (or [B, S, 3·H·D]), bf16 or f32, D even and at most 256 → the same with q and k normalised and turned.
pub fn qk_norm_rope(qkv: Arg, with: QkNormRope) -> Result<CudaStorage> {
    let (context, heads) = (Context::of(&qkv.0.device)?, with.heads_of(qkv.0, qkv.1)?);
    let from = contiguous(qkv, qkv.0.dtype(), heads.elements(), "qkv")?;
    let to = uninitialised(&context.device, heads.elements(), qkv.0.dtype())?;
    heads.turn(from, base(&to), context.stream())?;
    Ok(to)
}

/// The same in place: v is not touched.
pub fn qk_norm_rope_in_place(qkv: Out, with: QkNormRope) -> Result<()> {
    let (context, heads) = (Context::of(&qkv.0.device)?, with.heads_of(qkv.0, qkv.1)?);
    let at = contiguous((qkv.0, qkv.1), qkv.0.dtype(), heads.elements(), "qkv")?;
    heads.turn(at, at, context.stream())
}

/// dqkv. qkv: what went in; g: gradient of what came out, contiguous.
pub fn qk_norm_rope_gradient(qkv: Arg, g: Arg, with: QkNormRope) -> Result<CudaStorage> {
    let (context, heads) = (Context::of(&qkv.0.device)?, with.heads_of(qkv.0, qkv.1)?);
    let before = contiguous(qkv, qkv.0.dtype(), heads.elements(), "qkv")?;
    let from = contiguous(g, qkv.0.dtype(), heads.elements(), "g")?;
    let to = uninitialised(&context.device, heads.elements(), qkv.0.dtype())?;
    heads.turn_back(before, from, base(&to), context.stream())?;
    Ok(to)
}

/// The same, written over g: v's part is not touched.
pub fn qk_norm_rope_gradient_in_place(qkv: Arg, g: Out, with: QkNormRope) -> Result<()> {
    let (context, heads) = (Context::of(&qkv.0.device)?, with.heads_of(qkv.0, qkv.1)?);
    let before = contiguous(qkv, qkv.0.dtype(), heads.elements(), "qkv")?;
    let at = contiguous((g.0, g.1), qkv.0.dtype(), heads.elements(), "g")?;
    heads.turn_back(before, at, at, context.stream())
}

impl QkNormRope<'_> {
    fn heads_of(&self, qkv: &CudaStorage, layout: &Layout) -> Result<Heads> {
        let dims = layout.dims();
        let &[batch, tokens, ..] = dims else { candle_core::bail!("qkv must be [B, S, 3, H, D], not {dims:?}") };
        let half = self.cos.1.dims().last().copied().unwrap_or(0);
        let width = 2 * half;
        if dims[2..].iter().product::<usize>() != 3 * self.heads * width || width == 0 || width > 256 {
            candle_core::bail!("qkv {dims:?} is not that of {} heads of {width} elements, of which there may be 2 to 256", self.heads);
        }
        if self.text_tokens > tokens {
            candle_core::bail!("{} text tokens, but {tokens} tokens in all", self.text_tokens);
        }
        let weight = |arg| contiguous(arg, DType::F32, width, "a norm's weight").map(|weight| weight as *const f32);
        let angle = |arg| contiguous(arg, DType::F32, tokens * half, "an angle").map(|angle| angle as *const f32);
        Ok(Heads {
            batch: batch as i32,
            tokens: tokens as i32,
            heads: self.heads as i32,
            width: width as i32,
            text_tokens: self.text_tokens as i32,
            dtype: code(qkv.dtype())?,
            vector: i32::from(width.is_multiple_of(8)),
            text: [weight(self.text[0])?, weight(self.text[1])?],
            picture: [weight(self.picture[0])?, weight(self.picture[1])?],
            cos: angle(self.cos)?,
            sin: angle(self.sin)?,
        })
    }
}

impl Heads {
    fn elements(&self) -> usize {
        3 * [self.batch, self.tokens, self.heads, self.width].into_iter().map(|n| n as usize).product::<usize>()
    }

    /// With 16-byte accesses only where every head starts at a multiple of 16 bytes.
    fn aligned(self, pointers: &[*mut c_void]) -> Self {
        let all = pointers.iter().all(|&pointer| (pointer as usize).is_multiple_of(16));
        Self { vector: i32::from(self.vector != 0 && all), ..self }
    }

    fn turn(self, from: *mut c_void, to: *mut c_void, stream: kernels::Stream) -> Result<()> {
        if self.elements() == 0 {
            return Ok(());
        }
        // SAFETY: both hold `elements()`, and what they are turned with was checked on construction.
        queued(unsafe { kernels::atelier_qk_norm_rope(self.aligned(&[from, to]), from, to, stream) }, "qk_norm_rope")
    }

    fn turn_back(self, qkv: *mut c_void, from: *mut c_void, to: *mut c_void, stream: kernels::Stream) -> Result<()> {
        if self.elements() == 0 {
            return Ok(());
        }
        let heads = self.aligned(&[qkv, from, to]);
        // SAFETY: all hold `elements()`, and what they are turned with was checked on construction.
        queued(unsafe { kernels::atelier_qk_norm_rope_gradient(heads, qkv, from, to, stream) }, "qk_norm_rope_gradient")
    }
}
