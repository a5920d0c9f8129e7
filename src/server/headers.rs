//! What every answer says to the browser, and which requests are refused before anything is read.

use super::{AppState, error::Refusal, rest};
use app::api::ApiError;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// Pages run their own scripts and show their own pictures; nothing else may be loaded. Leptos starts its pages with inline scripts.
/// A Space is shown in a frame of the Hub.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'; \
    style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; object-src 'none'; \
    base-uri 'self'; form-action 'self'; frame-ancestors 'self' https://huggingface.co https://*.hf.space";

const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("permissions-policy"), HeaderValue::from_static("camera=(), microphone=(), geolocation=()")),
];

pub async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

/// A page elsewhere must not start trainings or delete pictures in its visitor's name. Programs that are no browsers say nothing
/// about where they come from, and are let through.
pub async fn same_origin(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if reads || rest::is_signed(&request) || is_same_origin(request.headers(), state.site.loopback) {
        return next.run(request).await;
    }
    let sentence = "This request came from another site, so nothing was changed. Use Atelier's own pages.";
    Refusal(ApiError::new(403, sentence)).into_response()
}

fn is_same_origin(headers: &HeaderMap, loopback: bool) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(header::HOST);
    // Another site's name that resolves to this machine: the browser takes both for one origin.
    if loopback && text(header::ORIGIN).is_some() && !host.is_some_and(names_this_machine) {
        return false;
    }
    match (text(HeaderName::from_static("sec-fetch-site")), text(header::ORIGIN)) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => origin.split_once("://").map(|(_, origin_host)| origin_host) == host,
        (None, None) => true,
    }
}

pub(super) fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name == "localhost"
        || name.ends_with(".localhost")
        || name.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_our_own_pages_and_programs_change_things() {
        let cases = [
            (headers(&[("host", "localhost:7860"), ("origin", "http://localhost:7860")]), true),
            (headers(&[("host", "[::1]:7860"), ("origin", "http://[::1]:7860")]), true),
            (headers(&[("host", "localhost:7860"), ("origin", "http://evil.example")]), false),
            (headers(&[("host", "localhost:7860"), ("origin", "http://localhost:7861")]), false),
            (headers(&[("host", "localhost:7860"), ("sec-fetch-site", "cross-site")]), false),
            (headers(&[("host", "localhost:7860"), ("sec-fetch-site", "same-site")]), false),
            (headers(&[("host", "rebound.example:7860"), ("origin", "http://rebound.example:7860")]), false),
            (headers(&[("host", "127.0.0.1:7860")]), true),
            (headers(&[("host", "localhost:7860"), ("origin", "null")]), false),
        ];
        for (headers, allowed) in cases {
            assert_eq!(is_same_origin(&headers, true), allowed, "{headers:?}");
        }
        let space = headers(&[("host", "a-b.hf.space"), ("origin", "https://a-b.hf.space")]);
        assert!(is_same_origin(&space, false));
    }
}
