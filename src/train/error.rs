//! What can go wrong in training, in sentences for the person who started it.

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A recipe value outside its limits.
    #[error("{0}")]
    Recipe(String),
    /// A dataset that cannot be read, and which file of it.
    #[error("{0}")]
    Dataset(String),
    /// A checkpoint or cache that does not belong to this run, or is damaged.
    #[error("{0}")]
    State(String),
    #[error(transparent)]
    Engine(#[from] engine::Error),
    #[error("{}", sentence(.0))]
    Io(#[from] std::io::Error),
}

/// The engine tells memory that ran out and a lost device apart from other faults of tensors.
impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Engine(error.into())
    }
}

fn sentence(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::StorageFull => "the disk is full; free some space and go on: what is finished is kept".into(),
        _ => format!("a file could not be read or written: {error}"),
    }
}
