//! What can go wrong in the engine: each sentence says what was given and what is allowed.

use std::path::PathBuf;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value the caller can mend: a size, a step count, a scale.
    #[error("{0}")]
    Invalid(String),
    /// A model folder or file that is missing, truncated or not FLUX.1.
    #[error("{path}: {problem}")]
    Model { path: PathBuf, problem: String },
    /// An adapter that cannot be used with this model.
    #[error("adapter {name}: {problem}")]
    Adapter { name: String, problem: String },
    #[error("stopped")]
    Cancelled,
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Error {
    pub fn invalid(sentence: impl Into<String>) -> Self {
        Self::Invalid(sentence.into())
    }

    pub fn model(path: impl Into<PathBuf>, problem: impl ToString) -> Self {
        Self::Model { path: path.into(), problem: problem.to_string() }
    }

    pub fn adapter(name: impl Into<String>, problem: impl ToString) -> Self {
        Self::Adapter { name: name.into(), problem: problem.to_string() }
    }
}
