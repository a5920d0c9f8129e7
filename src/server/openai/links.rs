//! Pictures by link: a random name that lasts an hour, for clients that fetch a `url` without their token.

use super::Error;
use crate::{
    server::{AppState, rest::extract::Named},
    store::BlobKey,
};
use app::api::PictureId;
use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

const LASTS: Duration = Duration::from_secs(3600);

/// Links that were handed out by this process.
#[derive(Default)]
pub struct Links(Mutex<HashMap<String, (PictureId, Instant)>>);

impl Links {
    /// Its last part. 122 random bits are not guessed within the hour.
    pub fn make(&self, picture: &PictureId) -> String {
        let name = format!("{}.png", uuid::Builder::from_random_bytes(rand::random()).into_uuid().simple());
        let mut links = self.lock();
        links.retain(|_, (_, made)| made.elapsed() < LASTS);
        links.insert(name.clone(), (picture.clone(), Instant::now()));
        name
    }

    fn find(&self, name: &str) -> Option<PictureId> {
        self.lock().get(name).filter(|(_, made)| made.elapsed() < LASTS).map(|(picture, _)| picture.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (PictureId, Instant)>> {
        // Every change is one call: a panic elsewhere leaves nothing half-done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address under which the client that sent these headers finds a link.
pub fn address(headers: &HeaderMap, link: &str) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = if text("x-forwarded-proto").is_some_and(|scheme| scheme.starts_with("https")) { "https" } else { "http" };
    format!("{scheme}://{}/v1/images/files/{link}", text(header::HOST.as_str()).unwrap_or("localhost"))
}

pub async fn fetch(State(state): State<AppState>, Named(link): Named<String>) -> Result<Response, Error> {
    let expired = || Error::not_found("This link is not known or more than an hour old; ask for the picture again.");
    let picture = state.links.find(&link).ok_or_else(expired)?;
    let bytes = state.jobs.store.blobs.get(&BlobKey::picture(&picture)).await?;
    Ok(([(header::CONTENT_TYPE, "image/png"), (header::CACHE_CONTROL, "private, max-age=3600")], bytes).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn links_are_found_by_their_name_alone() {
        let links = Links::default();
        let (one, two) = (PictureId("one".into()), PictureId("two".into()));
        let (a, b) = (links.make(&one), links.make(&two));
        assert_ne!(a, b);
        assert_eq!((links.find(&a), links.find(&b), links.find("one")), (Some(one), Some(two), None));
    }

    #[test]
    fn an_address_is_the_one_that_the_client_used() {
        let mut headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("localhost:7860"))]);
        assert_eq!(address(&headers, "x.png"), "http://localhost:7860/v1/images/files/x.png");
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        assert_eq!(address(&headers, "x.png"), "https://localhost:7860/v1/images/files/x.png");
    }
}
