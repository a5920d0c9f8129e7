//! FLUX.1: prompt → text encoder → transformer × steps (+ adapters) → VAE → picture, and the gradients that train adapters.
//!
//! Knows no async, no database, no HTTP and no environment. Read it in the order of [`pipeline`].

pub mod adapter;
pub mod bfl;
pub mod checkpoint;
pub mod convert;
mod cores;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod device;
pub mod error;
mod evictable;
pub mod flops;
pub mod latents;
pub mod linear;
pub mod memory;
pub mod mounting;
pub mod ops;
pub mod params;
pub mod pipeline;
pub mod precision;
pub mod quant;
pub mod residence;
pub mod scheduler;
pub mod size;
pub mod synthetic;
pub mod text_encoder;
pub mod transformer;
pub mod vae;

pub use adapter::{Adapter, AdapterSet, Coverage, Delta, LoraPair};
pub use candle_core::{DType, Device, Tensor};
pub use checkpoint::Model;
pub use error::{Error, Result};
pub use mounting::Mounted;
pub use params::GenerateParams;
pub use pipeline::{Generation, Pipeline};
pub use precision::Precision;
pub use size::Size;
