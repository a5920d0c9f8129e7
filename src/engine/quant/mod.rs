//! Weights in eight and four bits. What is here is the specification: the CPU multiplies with the values that come back, and the kernels of
//! [`crate::cuda`] are their twins.

pub mod dynamic;
pub mod fp8;
pub mod nf4;

pub use fp8::Fp8Rows;
pub use nf4::Nf4;
