//! What every answer says to the browser, and which requests are refused before anything is read.

use super::{AppState, error::refused, rest, state::Site};
use crate::{config::PublicAddress, hub::address};
use app::api::ApiError;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::Response,
};
use reqwest::Url;

/// Pages run their own scripts and show their own pictures; nothing else may be loaded. Leptos starts its pages with inline scripts.
const OWN_PAGES_ALONE: &str = "default-src 'self'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'; \
    style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; object-src 'none'; \
    base-uri 'self'; form-action 'self'; frame-ancestors 'self'";

const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("permissions-policy"), HeaderValue::from_static("camera=(), microphone=(), geolocation=()")),
];

/// Six months, seconds.
const ENCRYPTED_ONLY: HeaderValue = HeaderValue::from_static("max-age=15768000");

pub async fn secure(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    protect(headers, state.site.framed_by.as_deref());
    if state.site.public.is_encrypted() {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, ENCRYPTED_ONLY);
    }
    response
}

/// What holds for every answer, whoever gives it.
pub(super) fn protect(headers: &mut HeaderMap, framed_by: Option<&str>) {
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(value);
    }
    if is_made_for_one(headers) {
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, policy(framed_by));
}

/// Pages and answers say who is signed in; scripts, fonts and icons do not.
fn is_made_for_one(headers: &HeaderMap) -> bool {
    let content = text(headers, header::CONTENT_TYPE).unwrap_or_default();
    content.starts_with("text/html") || content.starts_with("application/json")
}

fn policy(framed_by: Option<&str>) -> HeaderValue {
    let hub = framed_by.and_then(|hub| Url::parse(hub).ok()).map(|hub| format!(" {}", hub.origin().ascii_serialization()));
    let policy = OWN_PAGES_ALONE.to_owned() + &hub.unwrap_or_default();
    HeaderValue::try_from(policy).expect("plain text")
}

/// A page elsewhere must not start trainings or delete pictures in its visitor's name, nor read under a name that it gave this machine.
pub async fn same_origin(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let (headers, site) = (request.headers(), &state.site);
    let is_ours = is_under_its_name(headers, site) && (reads || is_same_origin(headers, &site.public));
    if is_ours || rest::is_signed(&request) {
        return next.run(request).await;
    }
    let sentence = "This request came from another site, so nothing was changed. Use Atelier's own pages.";
    refused(request.uri().path(), ApiError::new(403, sentence))
}

/// Another site's name that resolves to this machine: the browser takes both for one origin.
fn is_under_its_name(headers: &HeaderMap, site: &Site) -> bool {
    let host = text(headers, header::HOST);
    !site.loopback || host.is_none_or(|host| names_this_machine(host) || host == site.public.authority())
}

/// Programs that are no browsers say nothing about where they come from, and hold no cookies; they are let through.
fn is_same_origin(headers: &HeaderMap, public: &PublicAddress) -> bool {
    match (text(headers, HeaderName::from_static("sec-fetch-site")), text(headers, header::ORIGIN)) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => origin == public.origin() || origin.split_once("://").map(|(_, host)| host) == text(headers, header::HOST),
        (None, None) => !headers.contains_key(header::COOKIE),
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

pub(super) fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.ends_with(".localhost") || address::names_this_machine(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn site(loopback: bool, public: &str) -> Site {
        Site { folder: "".into(), loopback, alone: false, public: public.parse().unwrap(), framed_by: None }
    }

    fn changes(headers: &HeaderMap, site: &Site) -> bool {
        is_under_its_name(headers, site) && is_same_origin(headers, &site.public)
    }

    #[test]
    fn only_our_own_pages_and_programs_change_things() {
        let here = site(true, "http://localhost:7860");
        let cases = [
            (headers(&[("host", "localhost:7860"), ("origin", "http://localhost:7860")]), true),
            (headers(&[("host", "[::1]:7860"), ("origin", "http://[::1]:7860")]), true),
            (headers(&[("host", "localhost:7860"), ("origin", "http://evil.example")]), false),
            (headers(&[("host", "localhost:7860"), ("origin", "http://localhost:7861")]), false),
            (headers(&[("host", "localhost:7860"), ("sec-fetch-site", "cross-site")]), false),
            (headers(&[("host", "localhost:7860"), ("sec-fetch-site", "same-site")]), false),
            (headers(&[("host", "rebound.example:7860"), ("origin", "http://rebound.example:7860")]), false),
            (headers(&[("host", "127.0.0.1:7860")]), true),
            (headers(&[("host", "127.0.0.1:7860"), ("cookie", "session=x")]), false),
            (headers(&[("host", "localhost:7860"), ("origin", "null")]), false),
        ];
        for (headers, allowed) in cases {
            assert_eq!(changes(&headers, &here), allowed, "{headers:?}");
        }
        let space = site(false, "https://a-b.hf.space");
        assert!(changes(&headers(&[("host", "a-b.hf.space"), ("origin", "https://a-b.hf.space")]), &space));
        // A proxy may call the machine by a name of its own.
        assert!(changes(&headers(&[("host", "10.0.0.7:7860"), ("origin", "https://a-b.hf.space")]), &space));
        assert!(!changes(&headers(&[("host", "10.0.0.7:7860"), ("origin", "https://c-d.hf.space")]), &space));
    }

    #[test]
    fn a_name_that_another_site_gave_this_machine_reads_nothing() {
        assert!(!is_under_its_name(&headers(&[("host", "rebound.example:7860")]), &site(true, "http://localhost:7860")));
        assert!(is_under_its_name(&headers(&[("host", "atelier.example")]), &site(true, "https://atelier.example")));
        assert!(is_under_its_name(&headers(&[("host", "anything.example")]), &site(false, "https://atelier.example")));
    }

    #[test]
    fn the_hub_alone_frames_a_space_and_nobody_else_anything() {
        let ancestors = |hub| policy(hub).to_str().unwrap().split("frame-ancestors ").nth(1).unwrap().to_owned();
        assert_eq!(ancestors(None), "'self'");
        assert_eq!(ancestors(Some("https://huggingface.co")), "'self' https://huggingface.co");
        assert_eq!(ancestors(Some("https://hub.example/a; script-src *")), "'self' https://hub.example");
    }
}
