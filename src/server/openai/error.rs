//! Refusals in the shape that OpenAI's clients turn into exceptions.

use super::super::error::Refusal;
use app::api::ApiError;
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = OpenAiError)]
pub struct Error {
    #[serde(skip)]
    #[schema(ignore)]
    status: u16,
    pub error: Details,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = OpenAiErrorDetails)]
pub struct Details {
    /// A sentence that says what to do.
    pub message: String,
    /// `invalid_request_error`, `rate_limit_error` or `server_error`
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The field that is to blame, where one is.
    pub param: Option<&'static str>,
    pub code: Option<&'static str>,
}

impl Error {
    fn new(status: u16, message: impl Into<String>) -> Self {
        let (kind, code) = match status {
            401 => ("invalid_request_error", Some("invalid_api_key")),
            404 => ("invalid_request_error", Some("not_found")),
            409 | 429 => ("rate_limit_error", Some("rate_limit_exceeded")),
            400..500 => ("invalid_request_error", None),
            _ => ("server_error", None),
        };
        Self { status, error: Details { message: message.into(), kind, param: None, code } }
    }

    /// A field whose value cannot be used.
    pub fn invalid(param: &'static str, message: impl Into<String>) -> Self {
        let mut error = Self::new(400, message);
        (error.error.param, error.error.code) = (Some(param), Some("invalid_value"));
        error
    }

    pub fn no_model(message: impl Into<String>) -> Self {
        let mut error = Self::new(404, message);
        (error.error.param, error.error.code) = (Some("model"), Some("model_not_found"));
        error
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, message)
    }

    /// One that asking again does not mend.
    pub fn refused(status: u16, message: impl Into<String>) -> Self {
        Self::new(status, message)
    }

    pub fn server(status: u16, message: impl Into<String>) -> Self {
        Self::new(status, message)
    }
}

/// Unusable values are 400 there. A full queue is 429, which clients try again after a while.
impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        let status = match error.status {
            422 => 400,
            409 => 429,
            status => status,
        };
        Self::new(status, error.message)
    }
}

impl From<Refusal> for Error {
    fn from(Refusal(error): Refusal) -> Self {
        error.into()
    }
}

impl From<crate::store::Error> for Error {
    fn from(error: crate::store::Error) -> Self {
        ApiError::from(error).into()
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self)).into_response()
    }
}
