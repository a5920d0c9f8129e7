//! Why somebody could not be signed in, in a sentence.

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Whoever runs the studio has to mend it.
    #[error("{0}")]
    Settings(String),
    #[error("{provider} could not be reached to sign you in: {why}. Try again in a minute.")]
    Unreachable { provider: String, why: String },
    /// The provider, or a check, says no to this attempt.
    #[error("{0} Start signing in again.")]
    Refused(String),
    /// What came back is not what a provider that can be trusted says.
    #[error(
        "The answer to the sign-in cannot be trusted ({0}), so nobody was signed in. Try again; if it stays, tell whoever runs this studio."
    )]
    Untrusted(&'static str),
}

impl Error {
    /// The provider sent the person back without a code. Its words came through the browser, so they are not repeated.
    pub fn denied(error: &str) -> Self {
        Self::refused(match error {
            "access_denied" => "You did not agree over there, so nobody was signed in.",
            _ => "The sign-in was refused over there, so nobody was signed in.",
        })
    }

    pub(super) fn refused(sentence: impl Into<String>) -> Self {
        Self::Refused(sentence.into())
    }

    pub(super) fn untrusted(what: &'static str) -> Self {
        Self::Untrusted(what)
    }

    /// The status that tells a browser the same.
    pub fn status(&self) -> u16 {
        match self {
            Self::Settings(_) => 500,
            Self::Unreachable { .. } => 503,
            Self::Refused(_) => 403,
            Self::Untrusted(_) => 502,
        }
    }
}
