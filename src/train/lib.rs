//! Pictures → dataset → cached latents and embeddings → trainer → adapter. Read it in the order of [`trainer`].
//!
//! Everything a run does lies in its folder: recipe, caches, checkpoints, samples, event file, adapter.

pub mod ahead;
mod atomic;
pub mod batch;
pub mod buckets;
pub mod cache;
pub mod dataset;
pub mod error;
pub mod estimate;
mod lora;
mod number;
pub mod objective;
pub mod optimizer;
mod order;
mod random;
pub mod recipe;
mod run;
mod samples;
pub mod state;
mod tensor_file;
pub mod tensorboard;
pub mod trainer;
mod update;

pub use dataset::Dataset;
pub use error::{Error, Result};
pub use recipe::Recipe;
pub use trainer::{Event, Trainer};
