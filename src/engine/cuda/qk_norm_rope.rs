//! RMSNorm and rotary embedding of queries and keys inside a packed qkv (twin: `ops::plain::rms_norm_rope`, epsilon 1e-6).

use super::{Arg, Out};
use candle_core::{CudaStorage, Result};

/// What the heads are normalised and turned with. Angles: [S, D/2] f32, weights: [D] f32, all contiguous.
#[derive(Clone, Copy)]
pub struct QkNormRope<'a> {
    /// Weights of q and of k in rows `..text_tokens`.
    pub text: [Arg<'a>; 2],
    /// Weights of q and of k in the other rows.
    pub picture: [Arg<'a>; 2],
    pub text_tokens: usize,
    pub cos: Arg<'a>,
    pub sin: Arg<'a>,
}

/// qkv: contiguous [B, S, 3, H, D] (or [B, S, 3·H·D]), bf16 or f32, D even and at most 256 → the same with q and k normalised and turned.
pub fn qk_norm_rope(qkv: Arg, with: QkNormRope) -> Result<CudaStorage>;

/// The same in place: v is not touched.
pub fn qk_norm_rope_in_place(qkv: Out, with: QkNormRope) -> Result<()>;

/// dqkv. qkv: what went in; g: gradient of what came out.
pub fn qk_norm_rope_gradient(qkv: Arg, g: Arg, with: QkNormRope) -> Result<CudaStorage>;

/// The same, written over g: v's part is not touched.
pub fn qk_norm_rope_gradient_in_place(qkv: Arg, g: Out, with: QkNormRope) -> Result<()>;
