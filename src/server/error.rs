//! One table from what went wrong to a status and a sentence.

use crate::store;
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

/// A dataset or recipe that training would refuse.
pub fn of_train(error: train::Error) -> ApiError {
    use train::Error::*;
    match error {
        Recipe(_) | Dataset(_) | State(_) => ApiError::new(422, sentence(&error.to_string())),
        Engine(error) => of_engine(error),
        Io(error) => store::Error::from(error).into(),
        Tensor(_) => internal(&error),
    }
}

/// A value or file that the engine would refuse.
pub fn of_engine(error: engine::Error) -> ApiError {
    use engine::Error::*;
    match error {
        Invalid(_) | Adapter { .. } => ApiError::new(422, sentence(&error.to_string())),
        Cancelled => ApiError::new(409, "It was stopped."),
        Io(error) => store::Error::from(error).into(),
        Model { .. } | Tensor(_) => internal(&error),
    }
}

/// The model is not there to ask.
pub fn unavailable(error: anyhow::Error) -> ApiError {
    ApiError::new(503, error.to_string())
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

/// The crates below speak in clauses; a page wants a sentence.
fn sentence(clause: &str) -> String {
    let mut letters = clause.trim().chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let text = first + letters.as_str();
    if text.ends_with(['.', '!', '?', ')']) { text } else { text + "." }
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
