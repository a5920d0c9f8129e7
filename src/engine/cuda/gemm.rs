//! Products by cuBLASLt: sums in f32 (f32 operands multiply in f32, not tf32).

use super::{Arg, Out, fp8::Fp8};
use candle_core::{CudaStorage, Result};

/// What a product does on its way to memory: y = activation(alpha·x·Wᵀ + bias) + (what was there, if it adds).
#[derive(Clone, Copy)]
pub struct Epilogue<'a> {
    /// Factor of the product, a LoRA scale for instance.
    pub alpha: f32,
    /// [N] in y's dtype.
    pub bias: Option<Arg<'a>>,
    /// GELU, tanh approximation, after the bias. Not together with `add`.
    pub gelu: bool,
    /// y += instead of y =.
    pub add: bool,
}

impl Default for Epilogue<'_> {
    fn default() -> Self {
        Self { alpha: 1.0, bias: None, gelu: false, add: false }
    }
}

/// x·Wᵀ. x: rows [.., K]; weight: rows [N, K] of the same dtype, bf16 or f32 → [.., N] of that dtype.
/// A small N (LoRA's x·Aᵀ) is as good as any.
pub fn linear(x: Arg, weight: Arg, epilogue: Epilogue) -> Result<CudaStorage>;

/// The same into y: rows [.., N], which may be a slice of columns (`narrow` of the last dimension) or of tokens.
pub fn linear_into(x: Arg, weight: Arg, epilogue: Epilogue, y: Out) -> Result<()>;

/// fp8 e4m3 with a scale per row of x and per row of W (an output channel), into bf16. On GPUs whose cuBLASLt has no such scaling, the
/// product is unscaled and a kernel of ours scales it. K and N: multiples of 16.
pub fn linear_fp8(x: Fp8, weight: Fp8, epilogue: Epilogue) -> Result<CudaStorage>;

/// The same into y, bf16.
pub fn linear_fp8_into(x: Fp8, weight: Fp8, epilogue: Epilogue, y: Out) -> Result<()>;

/// dX = g·W. g: rows [.., N]; weight: rows [N, K] → [.., K]. Of `epilogue`, alpha and add.
pub fn input_gradient(g: Arg, weight: Arg, epilogue: Epilogue) -> Result<CudaStorage>;

/// The same into dx: rows [.., K].
pub fn input_gradient_into(g: Arg, weight: Arg, epilogue: Epilogue, dx: Out) -> Result<()>;

/// dW = alpha·gᵀ·x over all rows, in f32. g: rows [.., N]; x: rows [.., K], of one dtype → [N, K] f32.
pub fn weight_gradient(g: Arg, x: Arg, alpha: f32) -> Result<CudaStorage>;

/// The same into dw: rows [N, K] f32, adding to it if `add`.
pub fn weight_gradient_into(g: Arg, x: Arg, alpha: f32, add: bool, dw: Out) -> Result<()>;
