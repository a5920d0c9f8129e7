//! FLUX's operations on NVIDIA GPUs of compute capability 8.0 and above, over candle's storages. Nothing here knows of gradients'
//! graphs: a gradient is a function like any other.
//!
//! - [`device`]: opening a GPU, memory counters.
//! - [`norm`], [`qk_norm_rope`], [`gelu`], [`residual`]: what lies between the products, in bf16 or f32, with sums in f32.
//! - [`gemm`]: products (cuBLASLt) in bf16, f32 and fp8, into fresh tensors or slices of larger ones.
//! - [`attention`]: cuDNN's fused attention and its gradient, bf16.
//! - [`nf4`], [`fp8`]: quantised weights and activations.
//! - [`pad`]: small matrices on their way to products.
//! - [`adamw8bit`], [`reduce`]: a training step over one flat buffer.
//! - [`conv`] (cuDNN, bf16), [`group_norm`], [`upsample`]: the VAE's, over channels-last feature maps; [`softmax`] for its wide head.
//!
//! Every function only queues work on the device's stream; none waits, but for the first product or convolution of a shape, which times its
//! candidates, and for reading AdamW's moments back. Arguments live on one device, and their last dimension is
//! contiguous; where a function says "rows", the dimensions before it may be strided (a `narrow` of a larger tensor).

pub mod adamw8bit;
pub mod attention;
mod context;
pub mod conv;
mod cudnn;
pub mod device;
pub mod fp8;
pub mod gelu;
pub mod gemm;
pub mod group_norm;
mod kernels;
pub mod nf4;
pub mod norm;
pub mod pad;
pub mod qk_norm_rope;
pub mod reduce;
pub mod residual;
pub mod softmax;
mod storage;
pub mod upsample;

use candle_core::{CudaStorage, Layout};

/// A tensor as candle's custom operations see it.
pub type Arg<'a> = (&'a CudaStorage, &'a Layout);

/// A tensor to write into. A column or row slice of a larger one is `Layout::contiguous(whole).narrow(..)`.
pub type Out<'a> = (&'a mut CudaStorage, &'a Layout);

/// Two gradients of one pass.
pub type Pair = (CudaStorage, CudaStorage);

pub use device::{Memory, describe, memory, open, reset_memory_peak, trim};
pub use storage::{tensor, uninitialised};
