//! FLUX.1: prompt → text encoder → transformer × steps (+ adapters) → VAE → picture, and the gradients that train adapters.
//!
//! Knows no async, no database, no HTTP and no environment. Read it in the order of [`pipeline`].

pub mod adapter;
pub mod checkpoint;
mod cores;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod error;
pub mod latents;
pub mod linear;
pub mod ops;
pub mod params;
pub mod pipeline;
pub mod scheduler;
pub mod size;
pub mod text_encoder;
pub mod transformer;
pub mod vae;

pub use adapter::{Adapter, AdapterSet, Coverage, LoraPair};
pub use candle_core::{DType, Device, Tensor};
pub use error::{Error, Result};
pub use params::GenerateParams;
pub use pipeline::{Generation, Pipeline};
pub use size::Size;
