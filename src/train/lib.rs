//! Pictures → dataset → cached latents and embeddings → trainer → adapter. Read it in the order of [`trainer`].
//!
//! Everything a run does lies in its folder: recipe, caches, checkpoints, samples, event file, adapter.

pub mod cache;
pub mod dataset;
pub mod error;
pub mod objective;
pub mod optimizer;
pub mod recipe;
pub mod state;
pub mod tensorboard;
pub mod trainer;

pub use dataset::Dataset;
pub use error::{Error, Result};
pub use recipe::Recipe;
pub use trainer::{Event, Trainer};
