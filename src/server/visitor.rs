//! Who asks: told once for each request, then asked of by everything that reads or changes something.

use super::sign_in::Grant;
use crate::store::{Owner, users::User};
use app::api::{Account, ApiError, ApiResult, Member as ShownMember};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, request::Parts},
};
use std::{convert::Infallible, sync::Arc};

#[derive(Clone, Debug)]
pub enum Visitor {
    /// The person at this machine, where nobody signs in.
    Local,
    /// Not signed in.
    Stranger {
        /// The page is shown in a frame, where signing in needs a tab of its own.
        framed: bool,
    },
    Member(Arc<Member>),
}

#[derive(Debug)]
pub struct Member {
    pub user: User,
    /// The sign-in that the session came from.
    pub sign_in: String,
    /// It is this person's studio.
    pub host: bool,
    /// The host looks at everybody's work.
    pub everyone: bool,
    /// `None` since a restart.
    pub grant: Option<Grant>,
    pub framed: bool,
}

impl Visitor {
    pub fn stranger(headers: &HeaderMap) -> Self {
        Self::Stranger { framed: is_framed(headers) }
    }

    /// Whoever sent this request.
    pub fn of(parts: &Parts) -> Self {
        parts.extensions.get().cloned().unwrap_or_else(|| Self::stranger(&parts.headers))
    }

    /// What this visitor may see.
    pub fn owner(&self) -> Owner {
        match self {
            Self::Local => Owner::local(),
            Self::Stranger { .. } => Owner::nobody(),
            Self::Member(member) if member.host => Owner::host(&member.user.id, member.everyone),
            Self::Member(member) => Owner::user(&member.user.id),
        }
    }

    /// Whose a new thing will be; strangers make and change nothing.
    pub fn maker(&self) -> ApiResult<Owner> {
        match self {
            Self::Stranger { .. } => Err(sign_in_first()),
            Self::Local | Self::Member(_) => Ok(self.owner()),
        }
    }

    pub fn member(&self) -> ApiResult<&Member> {
        match self {
            Self::Member(member) => Ok(member),
            Self::Local | Self::Stranger { .. } => Err(sign_in_first()),
        }
    }

    /// As the pages show it.
    pub fn account(&self) -> Account {
        match self {
            Self::Local => Account::Local,
            Self::Stranger { framed } => Account::Stranger { framed: *framed },
            Self::Member(member) => Account::Member(ShownMember {
                username: member.user.username.clone(),
                name: member.user.name.clone(),
                host: member.host,
                everyone: member.everyone,
                framed: member.framed,
                missing: member.grant.as_ref().map(|grant| grant.missing.clone()).unwrap_or_default(),
            }),
        }
    }
}

fn sign_in_first() -> ApiError {
    ApiError::new(401, "Sign in first, so that what you make is kept as yours. The button is at the top of every page.")
}

/// <https://w3c.github.io/webappsec-fetch-metadata/#sec-fetch-dest-header>
pub fn is_framed(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-dest").is_some_and(|destination| destination == "iframe")
}

/// Put there by [`super::sign_in::identify`]; who is not told is a stranger.
impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}
