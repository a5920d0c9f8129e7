//! The operations a FLUX block is made of, fused, with their gradients. Each has a plain twin in [`plain`] that is its specification.

#[cfg(target_arch = "x86_64")]
mod amx;
pub mod attention;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod conv;
#[cfg(target_arch = "x86_64")]
mod conv_lines;
#[cfg(target_arch = "x86_64")]
mod conv_tiles;
pub mod elementwise;
pub mod group_norm;
pub mod linear;
pub mod lora;
mod matrix;
pub mod norm;
pub mod plain;
pub mod qk_norm;
pub mod rope;
mod simd;
mod storage;
#[cfg(test)]
mod testing;
mod unit;
pub mod upsample;

pub use attention::{attention, attention_with_bias};
pub use conv::{ConvWeight, conv2d};
pub use elementwise::{gate_residual, gelu};
pub use group_norm::group_norm;
pub use linear::{Weight, linear};
pub use lora::add_lora;
pub use norm::layer_norm_modulate;
pub use qk_norm::rms_norm_rope;
pub use rope::Rope;
pub use upsample::upsample;
