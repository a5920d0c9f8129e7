//! The operations a FLUX block is made of, fused, each with its gradient as a function of its own: nothing here builds candle's graph, whose
//! backward pass clears and adds a tensor for every edge. Each operation has a plain twin in [`plain`] that is its specification.

pub mod activation;
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
#[cfg(feature = "cuda")]
mod gpu;
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
pub(crate) mod testing;
mod unit;
pub mod upsample;

pub use activation::{Activation, Reads};
pub use attention::{Attended, attention, attention_with_bias, packed_attention, packed_attention_gradient, softmax};
pub use conv::{ConvWeight, add_conv2d, conv2d};
pub use elementwise::{add_maps, gate_gradient, gate_gradient_x, gate_residual, gelu, gelu_for, gelu_gradient};
pub use group_norm::group_norm;
pub use linear::{Weight, add_linear, keeping_plain, linear, linear_gelu, linear_gradient, linear_into};
pub use lora::{
    add_columns, add_lora_down, add_lora_down_gradient, add_lora_up, add_matrix_gradient, lora_down, lora_up_gradient_into, padded_rank,
};
pub use norm::{layer_norm_modulate, layer_norm_modulate_gradient, modulation_gradients};
pub use qk_norm::{QkNormRope, qk_norm_rope, qk_norm_rope_gradient, qk_norm_rope_in_place};
pub use rope::Rope;
pub use storage::{to_be_written, with_last};
pub use upsample::{EnlargingWeight, enlarging_conv2d, upsample};
