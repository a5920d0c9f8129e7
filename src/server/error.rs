//! One table from what went wrong to a status and a sentence.

use super::{openai, rest};
use crate::{jobs, store};
use app::api::ApiError;
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};

impl From<store::Error> for ApiError {
    fn from(error: store::Error) -> Self {
        use store::Error::*;
        let status = match &error {
            NotFound { .. } => 404,
            Conflict(_) | Fenced => 409,
            DiskFull => 507,
            Database(_) | Migration(_) | Row(_) | Io(_) | Blob(_) | Picture(_) => return internal(&error),
        };
        Self::new(status, error.to_string())
    }
}

impl From<jobs::Error> for ApiError {
    fn from(error: jobs::Error) -> Self {
        use jobs::Error::*;
        match error {
            Refused(sentence) => refuse(sentence),
            Unavailable(sentence) => Self::new(503, sentence),
            Store(error) => error.into(),
            Hub(error) => Self::new(error.status(), error.to_string()),
            Fault(_) => internal(&error),
        }
    }
}

/// A value that is refused.
pub fn refuse(sentence: impl Into<String>) -> ApiError {
    ApiError::new(422, sentence)
}

/// Ours to mend: the log has the details, the visitor a sentence.
fn internal(error: &dyn std::error::Error) -> ApiError {
    tracing::error!(%error, "a request failed");
    ApiError::new(500, "Something inside Atelier went wrong. Nothing was changed; try again, and look into the log if it stays.")
}

/// An error in the shape that clients of this address read.
pub fn refused(path: &str, error: ApiError) -> Response {
    match path.strip_prefix(rest::OPENAI).is_some_and(|rest| rest.starts_with('/')) {
        true => openai::Error::from(error).into_response(),
        false => Refusal(error).into_response(),
    }
}

/// An [`ApiError`] as the answer of a plain handler.
#[derive(Debug)]
pub struct Refusal(pub ApiError);

impl<E: Into<ApiError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self.0)).into_response()
    }
}
