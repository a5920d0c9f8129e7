//! Who may use the HTTP API: whoever shows a token in `Authorization`. Cookies open nothing here, so no page elsewhere can use a visitor's.
//! A server for this machine alone, to which nobody has given a token, needs none: its pages need none either.

use super::super::{AppState, headers::names_this_machine, visitor::Visitor};
use crate::store::{Owner, tokens::TokenHash};
use app::api::{Api, ApiError, ApiResult};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use std::sync::Arc;

/// Somebody who was admitted, as whom rows are asked for.
#[derive(Clone, Debug)]
pub struct Caller(Visitor);

impl Caller {
    pub fn owner(&self) -> Owner {
        self.0.owner()
    }

    /// The system as this caller may use it.
    pub fn api(&self, state: &AppState) -> Arc<dyn Api> {
        state.api(self.0.clone())
    }
}

/// Put there by the layer around every route of the API.
impl FromRequestParts<AppState> for Caller {
    type Rejection = super::super::error::Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned().ok_or_else(refusal)?)
    }
}

/// Checks the token, or that none is needed.
pub async fn admit(state: &AppState, headers: &HeaderMap) -> ApiResult<Caller> {
    // Tokens belong to whoever runs the studio, not to anybody who signs in.
    let caller = Caller(Visitor::Local);
    let tokens = state.jobs.store.api_tokens();
    let known = match bearer(headers) {
        Some(token) => state.api_keys.admit(token) || tokens.admits(&TokenHash::of(token)).await?,
        None => false,
    };
    if known || (is_at_this_machine(state, headers) && state.api_keys.is_empty() && tokens.is_empty().await?) {
        return Ok(caller);
    }
    Err(refusal())
}

/// The token of a request, whatever it is worth.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Where nobody else comes, and asked for by an address of this machine: a name that only resolves to it may be another site's trick.
fn is_at_this_machine(state: &AppState, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    state.site.alone && host.is_some_and(names_this_machine)
}

fn refusal() -> ApiError {
    ApiError::new(
        401,
        "The HTTP API needs a token here: send the header Authorization: Bearer TOKEN. Whoever runs this Atelier makes one with `atelier token create`.",
    )
}
