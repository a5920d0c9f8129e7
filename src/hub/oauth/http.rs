//! Requests to the provider: bounded in time and size, never redirected, and nothing of what they carry in an error.

use super::{Error, Result};
use oauth2::{AsyncHttpClient, HttpRequest, HttpResponse, RequestTokenError, basic::BasicErrorResponse};
use reqwest::{Client, Request, RequestBuilder, StatusCode, redirect};
use std::{future::Future, pin::Pin, time::Duration};

/// A document of some hundred fields; tokens may be JWTs.
const LARGEST: usize = 256 << 10;
const PATIENCE: Duration = Duration::from_secs(15);
/// Of the provider's own words.
const LONGEST_WORDS: usize = 200;

pub(super) struct Http {
    client: Client,
    provider: String,
}

impl Http {
    pub fn new(provider: &str) -> Result<Self> {
        let client = Client::builder()
            .user_agent(concat!("atelier/", env!("CARGO_PKG_VERSION")))
            .timeout(PATIENCE)
            // A provider that redirects these could have us send secrets anywhere.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| Error::Settings(format!("no encrypted connection can be made from this machine: {error}")))?;
        Ok(Self { client, provider: provider.to_owned() })
    }

    pub fn get(&self, address: &str) -> RequestBuilder {
        self.client.get(address)
    }

    pub async fn send(&self, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>)> {
        let request = request.build().map_err(|error| self.unreachable(error))?;
        self.execute(request).await
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse> {
        let request = Request::try_from(request).map_err(|error| self.unreachable(error))?;
        let (status, body) = self.execute(request).await?;
        if status.is_server_error() {
            return Err(self.failing(status));
        }
        let mut response = HttpResponse::new(body);
        *response.status_mut() = status;
        Ok(response)
    }

    async fn execute(&self, request: Request) -> Result<(StatusCode, Vec<u8>)> {
        let mut response = self.client.execute(request).await.map_err(|error| self.unreachable(error))?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            if body.len() + chunk.len() > LARGEST {
                return Err(Error::untrusted("an answer without end"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status(), body))
    }

    pub fn failing(&self, status: StatusCode) -> Error {
        Error::Unreachable { provider: self.provider.clone(), why: format!("it fails with status {}", status.as_u16()) }
    }

    fn unreachable(&self, error: reqwest::Error) -> Error {
        let why = if error.is_timeout() { "no answer in time" } else { "the connection failed" };
        tracing::warn!(provider = self.provider, error = %error.without_url(), "the OpenID provider could not be reached");
        Error::Unreachable { provider: self.provider.clone(), why: why.to_owned() }
    }

    /// Why a code was not taken.
    pub fn refusal(&self, error: RequestTokenError<Error, BasicErrorResponse>) -> Error {
        match error {
            RequestTokenError::Request(error) => error,
            RequestTokenError::ServerResponse(said) => {
                let words = said.error_description().map(|words| plain(words)).filter(|words| !words.is_empty());
                let words = words.unwrap_or_else(|| plain(said.error().as_ref()));
                Error::refused(format!("{} did not accept the sign-in; it says: {words}.", self.provider))
            }
            RequestTokenError::Parse(..) | RequestTokenError::Other(_) => Error::untrusted("no token came back"),
        }
    }
}

/// For the library's request of the token endpoint.
impl<'c> AsyncHttpClient<'c> for Http {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.exchange(request))
    }
}

/// Somebody else's words, on one line and not too many.
pub(super) fn plain(words: &str) -> String {
    let line: String =
        words.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).take(LONGEST_WORDS).collect();
    line.trim_end_matches('.').to_owned()
}
