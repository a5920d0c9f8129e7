//! The operations a FLUX block is made of, fused, with their gradients. Each has a plain twin in [`plain`] that is its specification.

pub mod attention;
pub mod elementwise;
pub mod linear;
pub mod norm;
pub mod plain;
pub mod rope;

pub use attention::attention;
pub use elementwise::{gate_residual, gelu};
pub use linear::{Weight, add_lora, linear};
pub use norm::{layer_norm_modulate, rms_norm_rope};
pub use rope::Rope;
