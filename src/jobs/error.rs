//! What can go wrong with what a visitor asks for, told apart by who can mend it.

use crate::{hub, store};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value or a file that cannot be used; the sentence says what is allowed.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Hub(#[from] hub::Error),
    /// The model is not there to ask.
    #[error("{0}")]
    Unavailable(String),
    /// Ours to mend.
    #[error("{0}")]
    Fault(String),
}

impl Error {
    pub fn refused(sentence: impl Into<String>) -> Self {
        Self::Refused(sentence.into())
    }
}

impl From<train::Error> for Error {
    fn from(error: train::Error) -> Self {
        use train::Error::*;
        match error {
            Recipe(_) | Dataset(_) | State(_) => Self::Refused(sentence(&error.to_string())),
            Engine(error) => error.into(),
            Io(error) => Self::Store(error.into()),
        }
    }
}

impl From<engine::Error> for Error {
    fn from(error: engine::Error) -> Self {
        use engine::Error::*;
        match error {
            Invalid(_) | Adapter { .. } | OutOfMemory => Self::Refused(sentence(&error.to_string())),
            Io(error) => Self::Store(error.into()),
            Model { .. } | Tensor(_) | Cancelled => Self::Fault(error.to_string()),
        }
    }
}

/// The engine's own error under whatever a task made of it.
pub fn of_engine(error: &anyhow::Error) -> Option<&engine::Error> {
    error.chain().find_map(|cause| match cause.downcast_ref::<train::Error>() {
        Some(train::Error::Engine(error)) => Some(error),
        _ => cause.downcast_ref(),
    })
}

/// Work off the threads that answer requests.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Error::Fault(error.to_string())))
}

/// The crates below speak in clauses; a page wants a sentence. One that begins with a file's name keeps the name as it is.
fn sentence(clause: &str) -> String {
    let names_a_file = clause.split_whitespace().next().is_some_and(|word| word.trim_end_matches([',', ':']).contains('.'));
    let mut letters = clause.trim().chars();
    let first = letters.next().map(|letter| if names_a_file { letter.into() } else { letter.to_uppercase().to_string() });
    let text = first.unwrap_or_default() + letters.as_str();
    if text.ends_with(['.', '!', '?', ')']) { text } else { text + "." }
}
