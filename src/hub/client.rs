//! One client, one token: requests, repeated while it makes sense, and answers turned into [`Error`]s.

use super::{Error, Result, Token, address::is_safe};
use bytes::Bytes;
use reqwest::{
    Client, Method, RequestBuilder, StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// The Hub as one person may use it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hub {
    http: Client,
    endpoint: String,
    token: Token,
    /// Before the second attempt; three times as long before each further one.
    pause: Duration,
}

/// An answer that came whole.
pub(super) struct Answer {
    pub headers: HeaderMap,
    pub body: Bytes,
}

const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(300);
/// What the Hub asks us to wait is waited for up to this; longer is for the person to decide.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Of a sentence of the Hub's.
const LONGEST_WORDS: usize = 300;

impl Hub {
    /// `endpoint` is the address of the site, such as `https://huggingface.co`. Tokens travel encrypted, or stay on this machine.
    pub fn new(endpoint: &str, token: Token) -> Result<Self> {
        let endpoint = endpoint.trim().trim_end_matches('/').to_owned();
        let url = reqwest::Url::parse(&endpoint).map_err(|_| {
            Error::refused(format!("{endpoint:?} is no address of a Hub; HF_ENDPOINT takes one such as https://hub.example."))
        })?;
        if !is_safe(&url) {
            return Err(Error::refused(format!(
                "{endpoint} is not encrypted, so no token is sent there; give HF_ENDPOINT an https:// address."
            )));
        }
        let http = Client::builder()
            .user_agent(concat!("atelier/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(15))
            .read_timeout(Duration::from_secs(90))
            .build()
            .map_err(|error| Error::refused(format!("No encrypted connection can be made from this machine: {}.", cause(&error))))?;
        Ok(Self { http, endpoint, token, pause: PAUSE })
    }

    /// Other pauses between attempts, for hubs that are near.
    pub fn with_pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Waits as long as it should before the next attempt; false, at once, when that is too long.
    pub(super) async fn wait_after(&self, error: &Error, attempt: u32) -> bool {
        let pause = match error {
            Error::RateLimited { seconds: Some(seconds) } => Duration::from_secs(*seconds),
            _ => self.pause * 3_u32.pow(attempt),
        };
        if pause <= LONGEST_WAIT {
            tokio::time::sleep(pause).await;
        }
        pause <= LONGEST_WAIT
    }

    /// To a path of the Hub's own, signed with the token.
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.endpoint)).bearer_auth(self.token.secret())
    }

    /// To an address that the Hub gave us: signed only when it is the Hub's own.
    pub(super) fn request_to(&self, method: Method, address: &str, signed: bool) -> RequestBuilder {
        let request = self.http.request(method, address);
        let own = address.strip_prefix(&self.endpoint).is_some_and(|rest| rest.starts_with('/'));
        if signed && own { request.bearer_auth(self.token.secret()) } else { request }
    }

    /// Sends it, several times if need be: for requests that may be repeated. `what` completes "the Hub could not …".
    pub(super) async fn send(&self, what: &str, request: RequestBuilder) -> Result<Answer> {
        let mut attempt = 0;
        loop {
            let copy = request.try_clone().ok_or_else(|| Error::malformed("a request that cannot be sent twice"))?;
            match self.send_once(what, copy).await {
                Err(error) if error.is_transient() && attempt + 1 < ATTEMPTS && self.wait_after(&error, attempt).await => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    pub(super) async fn send_once(&self, what: &str, request: RequestBuilder) -> Result<Answer> {
        let response = request.send().await.map_err(|error| self.offline(what, error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.map_err(|error| self.offline(what, error))?;
        if status.is_success() { Ok(Answer { headers, body }) } else { Err(self.refusal(what, status, &headers, &body)) }
    }

    fn offline(&self, what: &str, error: reqwest::Error) -> Error {
        // Addresses that the Hub hands out for uploads are signed, which makes them secrets too.
        let why = self.token.removed_from(&cause(&error.without_url()));
        Error::Offline { endpoint: self.endpoint.clone(), what: what.to_owned(), why }
    }

    fn refusal(&self, what: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        let (what, said) = (what.to_owned(), self.words(headers, body));
        match status {
            StatusCode::UNAUTHORIZED => Error::Unauthorized(self.endpoint.clone()),
            StatusCode::FORBIDDEN => Error::Forbidden { what, said },
            StatusCode::NOT_FOUND => Error::NotFound { what },
            StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => Error::Conflict { what, said },
            StatusCode::TOO_MANY_REQUESTS => Error::RateLimited { seconds: wait(headers) },
            _ if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => Error::Failing { what, status: status.as_u16() },
            _ => Error::Rejected { what, status: status.as_u16(), said },
        }
    }

    /// The Hub's own sentence, on one line, without our token should it repeat it.
    fn words(&self, headers: &HeaderMap, body: &[u8]) -> String {
        let body = serde_json::from_slice::<serde_json::Value>(body).ok().and_then(|body| Some(body.get("error")?.as_str()?.to_owned()));
        let header = headers.get("x-error-message").and_then(|value| Some(value.to_str().ok()?.to_owned()));
        let words = body.or(header).unwrap_or_default();
        let words = self.token.removed_from(&words.split_whitespace().collect::<Vec<_>>().join(" "));
        words.chars().take(LONGEST_WORDS).collect()
    }
}

impl Answer {
    pub fn json<T: DeserializeOwned>(&self, what: &str) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| Error::malformed(format!("{what}: {error}")))
    }
}

/// `Retry-After: 30`, or the `t` of `RateLimit: "api";r=0;t=30`.
fn wait(headers: &HeaderMap) -> Option<u64> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let asked = text(RETRY_AFTER.as_str()).and_then(|value| value.trim().parse().ok());
    asked.or_else(|| text("ratelimit")?.split(';').find_map(|part| part.trim().strip_prefix("t=")?.parse().ok()))
}

/// The innermost reason, such as `connection refused`; reqwest's outer ones only say that a request failed.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    text.split(" (os error").next().unwrap_or(&text).trim_end_matches('.').to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(endpoint: &str) -> Result<Hub> {
        Hub::new(endpoint, Token::new("hf_secret").unwrap())
    }

    #[test]
    fn a_token_never_travels_in_the_open() {
        for good in ["https://hub.example", "http://127.0.0.1:8080/", "http://localhost:1", "http://[::1]:2"] {
            hub(good).unwrap();
        }
        for bad in ["http://hub.example", "http://127.0.0.1.evil.example", "ftp://localhost", "hub.example", ""] {
            assert!(matches!(hub(bad), Err(Error::Refused(_))), "{bad}");
        }
    }

    #[test]
    fn only_the_hub_itself_sees_the_token() {
        let hub = hub("https://hub.example/").unwrap();
        let signed =
            |address: &str, signed| hub.request_to(Method::PUT, address, signed).build().unwrap().headers().contains_key("authorization");
        assert!(signed("https://hub.example/verify", true));
        assert!(!signed("https://hub.example/verify", false));
        assert!(!signed("https://hub.example.evil/verify", true));
        assert!(!signed("https://storage.example/part?X-Amz-Signature=1", true));
    }

    #[test]
    fn waits_are_read_from_either_header() {
        let headers = |name: &'static str, value: &'static str| HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
        assert_eq!(wait(&headers("retry-after", "7")), Some(7));
        assert_eq!(wait(&headers("ratelimit", "\"api\";r=0;t=55")), Some(55));
        assert_eq!(wait(&headers("date", "7")), None);
    }
}
