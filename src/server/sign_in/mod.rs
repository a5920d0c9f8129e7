//! Sign in with Hugging Face, as the server keeps it: cookies that only it can read, sessions in the store, permissions in memory.
//!
//! [`routes::start`] → the provider → [`routes::callback`] → a session; [`identify`] tells who asks from then on. A Space is shown in a
//! frame, where a new tab's cookies are not seen: that tab gets a one-time [`handover`] code, which opens the frame a session of its own.

mod cookies;
mod grants;
mod handover;
mod landing;
mod routes;

pub use grants::Grant;
pub use routes::routes;

use super::{
    AppState, CannotStart,
    error::refused,
    visitor::{self, Member, Visitor},
};
use crate::{
    config::{Config, PublicAddress, SignInSettings},
    hub::oauth::{App, Provider, SignedIn},
    store::{Result, SessionKey, Store, new_id, users::User},
};
use axum::{
    extract::{Request, State},
    http::HeaderMap,
    middleware::Next,
    response::Response,
};
use cookies::Cookies;
use grants::Grants;
use handover::Codes;
use std::sync::Arc;

/// How long somebody stays signed in, seconds.
const SESSION: i64 = 7 * 24 * 3600;

pub struct SignIn {
    provider: Provider,
    settings: SignInSettings,
    store: Store,
    cookies: Cookies,
    grants: Grants,
    codes: Codes,
}

impl SignIn {
    pub fn new(config: &Config, settings: &SignInSettings, store: Store, public: &PublicAddress) -> anyhow::Result<Self> {
        let app = App {
            id: settings.client_id.clone(),
            secret: settings.client_secret.clone(),
            redirect: public.join(routes::CALLBACK),
            scopes: settings.scopes.clone(),
        };
        if !config.host.is_loopback() && !public.is_encrypted() {
            let sentence = "people would sign in over an address that is not encrypted; give the site's own with --public-url https://…";
            return Err(CannotStart(sentence.into()).into());
        }
        let provider = Provider::new(&settings.provider, app).map_err(|error| CannotStart(error.to_string()))?;
        let cookies = Cookies::new(settings.cookie_secret.as_ref(), public.is_encrypted());
        Ok(Self { provider, settings: settings.clone(), store, cookies, grants: Grants::default(), codes: Codes::default() })
    }

    /// A session with a key that nobody held before; those that the browser brought along are over.
    async fn replace(&self, headers: &HeaderMap, signed_in: SignedIn) -> Result<SessionKey> {
        for key in self.cookies.sessions(headers) {
            if let Some(session) = self.store.session(&key).await? {
                self.end(&session.sign_in).await?;
            }
        }
        self.open(signed_in).await
    }

    async fn open(&self, signed_in: SignedIn) -> Result<SessionKey> {
        let SignedIn { person, token, lasts, granted } = signed_in;
        let user = User { id: person.id, username: person.username, name: person.name };
        self.store.save_user(&user).await?;
        let sign_in: String = new_id();
        let key = self.store.open_session(&user.id, &sign_in, SESSION).await?;
        self.grants.keep(sign_in, Grant::new(token, lasts, granted, &self.settings.scopes));
        tracing::info!(username = user.username, "signed in");
        Ok(key)
    }

    /// Every session of the sign-in is over, and what was allowed with it forgotten.
    async fn end(&self, sign_in: &str) -> Result<()> {
        self.grants.forget(sign_in);
        self.codes.forget(sign_in);
        self.store.end_sign_in(sign_in).await
    }

    /// Whoever these cookies belong to.
    async fn visitor(&self, headers: &HeaderMap) -> Result<Visitor> {
        for key in self.cookies.sessions(headers) {
            if let Some(session) = self.store.session(&key).await? {
                let host = self.settings.hosts.include(&session.user.id, &session.user.username);
                let grant = self.grants.of(&session.sign_in);
                let (everyone, framed) = (host && session.everyone, visitor::is_framed(headers));
                return Ok(Visitor::Member(Arc::new(Member {
                    user: session.user,
                    sign_in: session.sign_in,
                    host,
                    everyone,
                    grant,
                    framed,
                })));
            }
        }
        Ok(Visitor::stranger(headers))
    }

    /// One-time, for the frame that this tab was opened from.
    pub fn code(&self, member: &Member) -> String {
        self.codes.make(&member.sign_in, &member.user.id)
    }

    /// Lists hold everybody's work from now on, or the host's own again.
    pub async fn look_at_everyone(&self, member: &Member, everyone: bool) -> Result<()> {
        self.store.look_at_everyone(&member.sign_in, everyone).await
    }
}

/// Tells everything behind it who asks.
pub async fn identify(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let visitor = match &state.sign_in {
        None => Ok(Visitor::Local),
        Some(sign_in) => sign_in.visitor(request.headers()).await,
    };
    match visitor {
        Ok(visitor) => {
            request.extensions_mut().insert(visitor);
            next.run(request).await
        }
        Err(error) => refused(request.uri().path(), error.into()),
    }
}
