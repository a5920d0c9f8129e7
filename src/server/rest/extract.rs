//! What handlers take from a request, refused in the API's own shape where it is not what it should be.

use super::super::{AppState, error::Refusal};
use app::api::ApiError;
use axum::{
    Json,
    extract::{
        FromRequest, FromRequestParts, Multipart, Path, Query, Request,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::request::Parts,
};
use serde::de::DeserializeOwned;
use std::error::Error;

/// A body of JSON.
pub struct Body<T>(pub T);

/// A form with files.
pub struct Sent(pub Multipart);

/// The query of an address.
pub struct Asked<T>(pub T);

/// The varying parts of a path.
pub struct Named<T>(pub T);

impl<T: DeserializeOwned> FromRequest<AppState> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Refusal> {
        Json::from_request(request, state).await.map(|Json(body)| Self(body)).map_err(|rejection| Refusal(unreadable(&rejection)))
    }
}

impl FromRequest<AppState> for Sent {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Refusal> {
        let form = Multipart::from_request(request, state).await;
        form.map(Self).map_err(|_| Refusal(ApiError::new(415, "Send the files as multipart/form-data, such as with curl --form.")))
    }
}

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Refusal> {
        let query = Query::from_request_parts(parts, state).await;
        query.map(|Query(query)| Self(query)).map_err(|rejection: QueryRejection| {
            Refusal(ApiError::new(422, format!("The query of the address cannot be used: {}.", cause(&rejection))))
        })
    }
}

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Refusal> {
        let path = Path::from_request_parts(parts, state).await;
        path.map(|Path(path)| Self(path)).map_err(|rejection: PathRejection| {
            Refusal(ApiError::new(404, format!("There is nothing at this address: {}.", cause(&rejection))))
        })
    }
}

fn unreadable(rejection: &JsonRejection) -> ApiError {
    let sentence = match rejection {
        JsonRejection::MissingJsonContentType(_) => "Send the body as JSON, with the header Content-Type: application/json.".to_owned(),
        _ if rejection.status() == 413 => "The body is too large; files are sent as multipart/form-data.".to_owned(),
        _ => format!("The body cannot be used: {}.", cause(rejection)),
    };
    ApiError::new(rejection.status().as_u16(), sentence)
}

/// The innermost reason, such as "missing field `prompt` at line 1 column 2".
fn cause(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => cause(source),
        None => error.to_string().trim_end_matches('.').to_owned(),
    }
}
