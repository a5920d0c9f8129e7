//! What can go wrong with what is kept.

use std::io;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("There is no {what} {id:?}. It may have been deleted.")]
    NotFound { what: &'static str, id: String },
    /// What is asked for does not go together with what is there.
    #[error("{0}")]
    Conflict(String),
    /// The run was taken over, or ended, since this attempt began.
    #[error("this attempt is no longer the run's own")]
    Fenced,
    #[error("The disk is full, so nothing was changed. Free some space and try again.")]
    DiskFull,
    #[error("the database: {0}")]
    Database(sqlx::Error),
    #[error("the database: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error("a row that cannot be read: {0}")]
    Row(#[from] serde_json::Error),
    #[error("{0}")]
    Io(io::Error),
    #[error("{0}")]
    Blob(object_store::Error),
    #[error("the picture cannot be encoded: {0}")]
    Picture(String),
}

impl Error {
    pub fn not_found(what: &'static str, id: impl ToString) -> Self {
        // The id came from a visitor: enough of it to recognise.
        Self::NotFound { what, id: id.to_string().chars().take(64).collect() }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        // https://sqlite.org/rescode.html#full
        const SQLITE_FULL: &str = "13";
        let full = error.as_database_error().and_then(|e| e.code()).is_some_and(|code| code == SQLITE_FULL);
        if full { Self::DiskFull } else { Self::Database(error) }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if is_full(&error) { Self::DiskFull } else { Self::Io(error) }
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        let mut causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
        let full = causes.any(|cause| cause.downcast_ref::<io::Error>().is_some_and(is_full));
        if full { Self::DiskFull } else { Self::Blob(error) }
    }
}

/// No space, or no more of the space that this user may take.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
