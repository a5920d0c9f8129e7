//! `/sign-in/…` and `/sign-out`: what a browser is sent through. The page around them is `/sign-in`.

use super::{SESSION, SignIn, landing::landing};
use crate::{
    config::PublicAddress,
    hub::oauth,
    server::{AppState, error::Refusal, visitor},
};
use app::{api::ApiError, forms::write_pairs};
use axum::{
    Form, Router,
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

pub const CALLBACK: &str = "/sign-in/callback";

pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/sign-in/start", get(start))
        .route(CALLBACK, get(callback))
        .route("/sign-in/code", post(code))
        .route("/sign-out", post(sign_out))
}

/// What the browser keeps while its person is at the provider.
#[derive(Serialize, Deserialize)]
pub struct Begun {
    attempt: oauth::Attempt,
    then: String,
    framed: bool,
}

#[derive(Deserialize)]
struct Start {
    /// Page to land on.
    #[serde(default)]
    then: String,
    /// Any text: this tab was opened from a frame.
    #[serde(default)]
    frame: String,
    /// Any text: the permissions are asked for again.
    #[serde(default)]
    again: String,
    /// Any text: this is the address that people come back to.
    #[serde(default)]
    here: String,
}

impl Start {
    /// The same under the studio's own address; once only, for a proxy may call us by any name.
    fn at(&self, public: &PublicAddress, then: &str) -> String {
        let pairs = [("then", then), ("frame", &self.frame), ("again", &self.again), ("here", "1")];
        format!("{}?{}", public.join("/sign-in/start"), write_pairs(&pairs))
    }
}

/// Off to the provider, from a page of its own: inside a frame it would not be shown.
async fn start(State(state): State<AppState>, Query(start): Query<Start>, headers: HeaderMap) -> Response {
    let then = landing(&start.then);
    let Some(sign_in) = &state.sign_in else { return Redirect::to(&then).into_response() };
    if visitor::is_framed(&headers) {
        return Redirect::to(&page(&[("again", &start.again), ("then", &then)])).into_response();
    }
    // The provider sends people back to one address, and a cookie of another name of ours would not be there.
    if start.here.is_empty() && headers.get(header::HOST).is_none_or(|host| host != state.site.public.authority()) {
        return Redirect::to(&start.at(&state.site.public, &then)).into_response();
    }
    match sign_in.provider.begin(!start.again.is_empty()).await {
        Ok((provider, attempt)) => {
            let begun = Begun { attempt, then, framed: !start.frame.is_empty() };
            with([sign_in.cookies.keep_begun(&begun)], Redirect::to(provider.as_str()))
        }
        Err(error) => failed(&error, &then),
    }
}

#[derive(Deserialize)]
struct Callback {
    code: Option<String>,
    #[serde(default)]
    state: String,
    error: Option<String>,
}

/// Back from the provider. Whatever comes of it, this attempt is over.
async fn callback(State(state): State<AppState>, Query(callback): Query<Callback>, headers: HeaderMap) -> Response {
    let Some(sign_in) = &state.sign_in else { return Redirect::to("/").into_response() };
    let (cookies, begun) = match sign_in.cookies.begun(&headers) {
        Some(begun) => come_back(sign_in, callback, begun, &headers).await,
        None => {
            let sentence = "This browser began no sign-in, or too long ago. Start signing in again.";
            (Vec::new(), page(&[("error", sentence)]))
        }
    };
    with(cookies.into_iter().chain([sign_in.cookies.forget_begun()]), Redirect::to(&begun))
}

/// Cookies to set, and where to land.
async fn come_back(sign_in: &SignIn, callback: Callback, begun: Begun, headers: &HeaderMap) -> (Vec<HeaderValue>, String) {
    let Begun { attempt, then, framed } = begun;
    let signed_in = match (callback.code, callback.error) {
        (Some(code), None) => sign_in.provider.finish(attempt, &callback.state, code).await,
        (_, Some(error)) => Err(oauth::Error::denied(&error)),
        (None, None) => Err(oauth::Error::denied("")),
    };
    let opened = match signed_in {
        Ok(signed_in) => sign_in.replace(headers, signed_in).await.map_err(ApiError::from),
        Err(error) => Err(ApiError::from(error)),
    };
    match opened {
        Ok(key) => (vec![sign_in.cookies.keep_session(&key)], if framed { page(&[("code", "1"), ("then", &then)]) } else { then }),
        Err(error) => (Vec::new(), page(&[("error", &error.message), ("then", &then)])),
    }
}

#[derive(Deserialize)]
struct Typed {
    #[serde(default)]
    code: String,
    #[serde(default)]
    then: String,
}

/// A frame is told the code of the tab that was opened from it.
async fn code(State(state): State<AppState>, Form(typed): Form<Typed>) -> Result<Response, Refusal> {
    let then = landing(&typed.then);
    let Some(sign_in) = &state.sign_in else { return Ok(Redirect::to(&then).into_response()) };
    let Some((family, user)) = sign_in.codes.redeem(&typed.code) else {
        let sentence = "This code is not known, or is older than three minutes. Sign in once more for a new one.";
        return Ok(Redirect::to(&page(&[("error", sentence), ("then", &then)])).into_response());
    };
    let key = sign_in.store.open_session(&user, &family, SESSION).await?;
    Ok(with([sign_in.cookies.keep_framed_session(&key)], Redirect::to(&then)))
}

async fn sign_out(State(state): State<AppState>, visitor: visitor::Visitor) -> Result<Response, Refusal> {
    let Some(sign_in) = &state.sign_in else { return Ok(Redirect::to("/").into_response()) };
    if let Ok(member) = visitor.member() {
        sign_in.end(&member.sign_in).await?;
    }
    Ok(with(sign_in.cookies.forget_sessions(), Redirect::to("/")))
}

/// The page that says what to do next.
fn page(pairs: &[(&str, &str)]) -> String {
    format!("/sign-in?{}", write_pairs(pairs))
}

fn failed(error: &oauth::Error, then: &str) -> Response {
    tracing::warn!(%error, "a sign-in could not be begun");
    Redirect::to(&page(&[("error", &error.to_string()), ("then", then)])).into_response()
}

fn with(cookies: impl IntoIterator<Item = HeaderValue>, redirect: Redirect) -> Response {
    let mut response = redirect.into_response();
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl From<oauth::Error> for ApiError {
    fn from(error: oauth::Error) -> Self {
        tracing::warn!(%error, "a sign-in failed");
        Self::new(error.status(), error.to_string())
    }
}
