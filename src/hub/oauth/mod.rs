//! Sign in with Hugging Face: OpenID Connect's authorization code flow with PKCE, for whoever speaks it as the Hub does.
//!
//! [`discovery`] → [`Provider::begin`] → the person agrees over there → [`Provider::finish`]: code for token, [`id_token`], [`userinfo`]

mod discovery;
mod error;
mod http;
mod id_token;
mod userinfo;

pub use error::{Error, Result};
pub use userinfo::Person;

use super::Token;
use discovery::Endpoints;
use http::Http;
use id_token::Expected;
use oauth2::{
    AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken, EndpointNotSet, EndpointSet, ExtraTokenFields, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, Scope, StandardRevocableToken, StandardTokenResponse, TokenResponse,
    basic::{BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType},
};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::Mutex;

/// What the provider knows this studio as.
#[derive(Clone, Debug)]
pub struct App {
    pub id: String,
    /// `None` for one that cannot keep a secret; PKCE guards either.
    pub secret: Option<SecretString>,
    /// Where people come back to.
    pub redirect: Url,
    /// Sent explicitly: what an app is registered with counts only when nothing is sent.
    pub scopes: Vec<String>,
}

/// One provider for one app. What it tells of itself is asked for once.
pub struct Provider {
    http: Http,
    issuer: String,
    app: App,
    endpoints: Mutex<Option<Arc<Endpoints>>>,
}

/// What the browser keeps while its person is at the provider: whoever comes back without it did not begin here.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    state: String,
    verifier: String,
    nonce: String,
}

/// Who came back, and what they allow.
#[derive(Clone, Debug)]
pub struct SignedIn {
    pub person: Person,
    pub token: Token,
    /// As long as the token lasts.
    pub lasts: Duration,
    pub granted: Vec<String>,
}

/// The Hub's own, for providers that do not say.
const USUAL_LIFE: Duration = Duration::from_secs(8 * 3600);

type Answer = StandardTokenResponse<WithIdToken, BasicTokenType>;
type OAuth = Client<
    BasicErrorResponse,
    Answer,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

#[derive(Serialize, Deserialize)]
struct WithIdToken {
    id_token: Option<String>,
}

impl ExtraTokenFields for WithIdToken {}

impl fmt::Debug for WithIdToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WithIdToken(…)")
    }
}

impl Provider {
    /// `address` is the provider's own, such as `https://huggingface.co`; encrypted, or on this machine.
    pub fn new(address: &str, app: App) -> Result<Self> {
        let issuer = address.trim().trim_end_matches('/').to_owned();
        discovery::safe(&issuer).map_err(|_| {
            Error::Settings(format!("{issuer:?} is no encrypted address of an OpenID provider; set OPENID_PROVIDER_URL to an https:// one"))
        })?;
        Ok(Self { http: Http::new(&issuer)?, issuer, app, endpoints: Mutex::default() })
    }

    /// Where to send the browser, and what it keeps meanwhile. `ask_again` shows the permissions even to who gave them before.
    pub async fn begin(&self, ask_again: bool) -> Result<(Url, Attempt)> {
        let client = self.client(&*self.endpoints().await?)?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let nonce = CsrfToken::new_random().into_secret();
        let scopes = self.app.scopes.iter().cloned().map(Scope::new);
        let mut request = client.authorize_url(CsrfToken::new_random).add_scopes(scopes).set_pkce_challenge(challenge);
        request = request.add_extra_param("nonce", nonce.clone());
        if ask_again {
            request = request.add_extra_param("prompt", "consent");
        }
        let (address, state) = request.url();
        Ok((address, Attempt { state: state.into_secret(), verifier: verifier.into_secret(), nonce }))
    }

    /// What the browser brought back, against what it kept. The code counts once, at the provider.
    pub async fn finish(&self, attempt: Attempt, state: &str, code: String) -> Result<SignedIn> {
        if attempt.state != state {
            return Err(Error::refused("This is not the sign-in that this browser began, so it was not gone on with."));
        }
        let endpoints = self.endpoints().await?;
        let client = self.client(&endpoints)?;
        let exchange = client.exchange_code(AuthorizationCode::new(code)).set_pkce_verifier(PkceCodeVerifier::new(attempt.verifier));
        let answer = exchange.request_async(&self.http).await.map_err(|error| self.http.refusal(error))?;
        let expected = Expected { issuer: &endpoints.issuer, app: &self.app.id, nonce: &attempt.nonce };
        let id_token = answer.extra_fields().id_token.as_deref().unwrap_or_default();
        let subject = id_token::subject(id_token, &expected)?;
        let token = Token::new(answer.access_token().secret()).map_err(|_| Error::untrusted("the access token is none"))?;
        let person = self.http.person(&endpoints.userinfo, &token, &subject).await?;
        Ok(SignedIn { person, token, lasts: answer.expires_in().unwrap_or(USUAL_LIFE), granted: self.granted(&answer) })
    }

    /// RFC 6749 §5.1: nothing said means all that was asked for.
    fn granted(&self, answer: &Answer) -> Vec<String> {
        match answer.scopes() {
            Some(scopes) => scopes.iter().map(|scope| scope.to_string()).collect(),
            None => self.app.scopes.clone(),
        }
    }

    fn client(&self, endpoints: &Endpoints) -> Result<OAuth> {
        let client = Client::new(ClientId::new(self.app.id.clone()))
            .set_auth_uri(endpoints.authorize.clone())
            .set_token_uri(endpoints.token.clone())
            .set_redirect_uri(RedirectUrl::from_url(self.app.redirect.clone()));
        Ok(match &self.app.secret {
            Some(secret) => client.set_client_secret(ClientSecret::new(secret.expose_secret().to_owned())),
            None => client,
        })
    }

    async fn endpoints(&self) -> Result<Arc<Endpoints>> {
        let mut known = self.endpoints.lock().await;
        if let Some(endpoints) = &*known {
            return Ok(endpoints.clone());
        }
        let endpoints = Arc::new(self.http.discover(&self.issuer).await?);
        *known = Some(endpoints.clone());
        Ok(endpoints)
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attempt(…)")
    }
}
