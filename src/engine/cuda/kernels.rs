//! The kernels' entry points: `kernels/kernels.h`, declaration by declaration.

use candle_core::{DType, Result};
use std::ffi::{CStr, c_char, c_void};

pub type Stream = *mut c_void;

/// Rows of `width` elements, `tokens` for each of `batch` pictures.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub batch: i32,
    pub tokens: i32,
    pub width: i32,
    pub dtype: i32,
    pub vector: i32,
}

/// Where rows lie; strides in elements.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub data: *mut c_void,
    pub batch_stride: i64,
    pub row_stride: i64,
}

impl View {
    pub const NONE: Self = Self { data: std::ptr::null_mut(), batch_stride: 0, row_stride: 0 };
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Emission {
    pub plain: *mut c_void,
    pub codes: *mut c_void,
    pub scale: *mut f32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Finish {
    pub row_scale: *const f32,
    pub column_scale: *const f32,
    pub bias: *const c_void,
    pub gelu: i32,
    pub add: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Pad {
    pub rows: i32,
    pub columns: i32,
    pub from_rows: i32,
    pub from_columns: i32,
    pub from_dtype: i32,
    pub to_dtype: i32,
    pub stride: i64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Heads {
    pub batch: i32,
    pub tokens: i32,
    pub heads: i32,
    pub width: i32,
    pub text_tokens: i32,
    pub dtype: i32,
    pub vector: i32,
    pub text: [*const f32; 2],
    pub picture: [*const f32; 2],
    pub cos: *const f32,
    pub sin: *const f32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Absmax {
    pub plain: *const f32,
    pub codes: *const u8,
    pub scale: *const f32,
    pub offset: *const f32,
    pub dynamic: *const f32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub start: u32,
    pub length: i32,
    pub full: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct AdamW8bit {
    pub blocks: *const Block,
    pub count: i32,
    pub first_positive: i32,
    pub parameters: *mut f32,
    pub gradients: *const f32,
    pub first: *mut u8,
    pub second: *mut u8,
    pub first_scale: *mut f32,
    pub second_scale: *mut f32,
    pub full_first: *mut f32,
    pub full_second: *mut f32,
    pub signed_code: *const f32,
    pub unsigned_code: *const f32,
    pub sum_of_squares: *const f32,
    pub largest_norm: f32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Picture {
    pub batch: i32,
    pub channels: i32,
    pub groups: i32,
    pub dtype: i32,
    pub pixels: i64,
    pub epsilon: f32,
    pub silu: i32,
}

unsafe extern "C" {
    pub fn atelier_layer_norm_modulate(shape: Shape, x: View, shift: View, scale: View, to: Emission, stream: Stream) -> i32;
    pub fn atelier_layer_norm_gradient(shape: Shape, x: View, scale: View, g: View, beside: View, dx: *mut c_void, stream: Stream) -> i32;
    pub fn atelier_modulation_gradients(
        shape: Shape,
        x: View,
        g: View,
        chunks: i32,
        partial: *mut f32,
        dshift: *mut f32,
        dscale: *mut f32,
        stream: Stream,
    ) -> i32;
    pub fn atelier_gate_residual(shape: Shape, residual: View, gate: View, x: View, y: *mut c_void, stream: Stream) -> i32;
    pub fn atelier_gate_gradient_x(shape: Shape, gate: View, g: View, dx: *mut c_void, stream: Stream) -> i32;
    pub fn atelier_gate_gradient(shape: Shape, x: View, g: View, chunks: i32, partial: *mut f32, dgate: *mut f32, stream: Stream) -> i32;
    pub fn atelier_gelu(shape: Shape, x: View, to: Emission, stream: Stream) -> i32;
    pub fn atelier_gelu_gradient(shape: Shape, x: View, g: View, dx: *mut c_void, stream: Stream) -> i32;
    pub fn atelier_finish_product(shape: Shape, from: View, to: View, finish: Finish, stream: Stream) -> i32;
    pub fn atelier_pad(pad: Pad, from: *const c_void, to: *mut c_void, stream: Stream) -> i32;
    pub fn atelier_qk_norm_rope(heads: Heads, from: *const c_void, to: *mut c_void, stream: Stream) -> i32;
    pub fn atelier_qk_norm_rope_gradient(heads: Heads, qkv: *const c_void, from: *const c_void, to: *mut c_void, stream: Stream) -> i32;
    pub fn atelier_fp8_quantise(shape: Shape, x: View, codes: *mut c_void, scale: *mut f32, stream: Stream) -> i32;
    pub fn atelier_fp8_dequantise(shape: Shape, codes: *const c_void, scale: *const f32, x: *mut c_void, stream: Stream) -> i32;
    pub fn atelier_nf4_quantise(n: i64, dtype: i32, w: *const c_void, codes: *mut c_void, absmax: *mut f32, stream: Stream) -> i32;
    pub fn atelier_nf4_dequantise(n: i64, dtype: i32, codes: *const c_void, absmax: Absmax, w: *mut c_void, stream: Stream) -> i32;
    pub fn atelier_dynamic_quantise(
        n: i64,
        values: *const f32,
        dynamic: *const f32,
        codes: *mut u8,
        scale: *mut f32,
        offset: *mut f32,
        stream: Stream,
    ) -> i32;
    pub fn atelier_adamw8bit(of: AdamW8bit, rule: super::adamw8bit::Rule, stream: Stream) -> i32;
    pub fn atelier_sum_of_squares(n: i64, dtype: i32, x: *const c_void, partial: *mut f32, sum: *mut f32, stream: Stream) -> i32;
    pub fn atelier_group_norm(
        of: Picture,
        x: *const c_void,
        weight: *const f32,
        bias: *const f32,
        chunks: i32,
        partial: *mut c_void,
        factors: *mut f32,
        y: *mut c_void,
        stream: Stream,
    ) -> i32;
    pub fn atelier_softmax(rows: i64, width: i32, dtype: i32, scale: f32, x: *mut c_void, stream: Stream) -> i32;
    pub fn atelier_add(n: i64, dtype: i32, x: *const c_void, sum: *mut c_void, stream: Stream) -> i32;
    pub fn atelier_join_phases(
        rows: i64,
        height: i32,
        width: i32,
        pixel_bytes: i64,
        x: *const c_void,
        y: *mut c_void,
        stream: Stream,
    ) -> i32;

    fn cudaGetErrorString(error: i32) -> *const c_char;
}

/// The kernels' name of a dtype.
pub fn code(dtype: DType) -> Result<i32> {
    match dtype {
        DType::F32 => Ok(0),
        DType::BF16 => Ok(1),
        other => candle_core::bail!("the CUDA kernels take bf16 and f32, not {other:?}: convert with `to_dtype`"),
    }
}

/// Turns what an entry point returned into a result.
pub fn queued(error: i32, what: &str) -> Result<()> {
    if error == 0 {
        return Ok(());
    }
    // SAFETY: the runtime answers every number with a static C string.
    let sentence = unsafe { CStr::from_ptr(cudaGetErrorString(error)) };
    candle_core::bail!("{what}: the GPU refused the kernel: {}", sentence.to_string_lossy())
}
