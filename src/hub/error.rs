//! What can go wrong between here and the Hub, each in a sentence that says what to do.

use std::fmt;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// Ours: what was asked for cannot be done, and nothing was sent.
    #[error("{0}")]
    Refused(String),
    /// 401
    #[error("The Hub does not know this token: it may be mistyped, expired or revoked. Make one with write access at {0}/settings/tokens.")]
    Unauthorized(String),
    /// 403
    #[error("This token may not {what}{}. Use one with write access there.", quoted(.said))]
    Forbidden { what: String, said: String },
    /// 404
    #[error("The Hub could not {what}: there is no such repository, or this token may not see it.")]
    NotFound { what: String },
    /// 409 and 412
    #[error("The Hub could not {what}, because something else changed there at the same time{}. Try again in a minute.", quoted(.said))]
    Conflict { what: String, said: String },
    /// Ours too: there is something already.
    #[error("{0}")]
    Taken(String),
    /// 429
    #[error("The Hub takes no more requests for now. Try again {}.", after(*.seconds))]
    RateLimited { seconds: Option<u64> },
    /// 5xx, after some attempts.
    #[error("The Hub failed to {what} (status {status}). Nothing is wrong on this side; try again in a few minutes.")]
    Failing { what: String, status: u16 },
    /// Any other status.
    #[error("The Hub refused to {what} (status {status}){}.", quoted(.said))]
    Rejected { what: String, status: u16, said: String },
    #[error("The Hub at {endpoint} could not be reached to {what}: {why}. Check the connection and try again.")]
    Offline { endpoint: String, what: String, why: String },
    /// What came back is not what was sent.
    #[error("The file {0} came back from the Hub with other bytes than were sent, so the publication was withdrawn. Try again.")]
    Mismatch(String),
    #[error("The Hub answered in a way that Atelier does not understand ({0}). Is HF_ENDPOINT the address of a Hub?")]
    Malformed(String),
    /// It failed, and what had been begun could not be taken back.
    #[error("{error} What was begun could not be taken back ({undo}): look at {url}.")]
    NotUndone { error: Box<Error>, undo: Box<Error>, url: String },
}

impl Error {
    pub fn refused(sentence: impl Into<String>) -> Self {
        Self::Refused(sentence.into())
    }

    pub(super) fn malformed(what: impl fmt::Display) -> Self {
        Self::Malformed(what.to_string())
    }

    /// The status that tells a browser or a script the same.
    pub fn status(&self) -> u16 {
        match self {
            Self::Refused(_) => 422,
            Self::Unauthorized(_) => 401,
            Self::Forbidden { .. } => 403,
            Self::NotFound { .. } => 404,
            Self::Conflict { .. } | Self::Taken(_) => 409,
            Self::RateLimited { .. } => 429,
            Self::Offline { .. } => 503,
            Self::Failing { .. } | Self::Rejected { .. } | Self::Mismatch(_) | Self::Malformed(_) => 502,
            Self::NotUndone { error, .. } => error.status(),
        }
    }

    /// The same request may do better in a moment, or may have been done without our hearing of it.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::Offline { .. } | Self::Failing { .. } | Self::RateLimited { .. })
    }
}

fn quoted(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("; it says: {}", text.trim_end_matches('.')) }
}

fn after(seconds: Option<u64>) -> String {
    match seconds {
        Some(seconds @ 0..=90) => format!("in {} seconds", seconds.max(1)),
        Some(seconds) => format!("in {} minutes", seconds.div_ceil(60)),
        None => "in a few minutes".to_owned(),
    }
}
