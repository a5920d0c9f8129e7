//! `/.well-known/openid-configuration`: where the provider's endpoints are. <https://openid.net/specs/openid-connect-discovery-1_0.html>

use super::{Error, Result, http::Http};
use crate::hub::address::is_safe;
use oauth2::{AuthUrl, TokenUrl};
use reqwest::Url;
use serde::Deserialize;

pub(super) struct Endpoints {
    pub issuer: String,
    pub authorize: AuthUrl,
    pub token: TokenUrl,
    pub userinfo: String,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    userinfo_endpoint: String,
}

impl Http {
    pub async fn discover(&self, issuer: &str) -> Result<Endpoints> {
        let (status, body) = self.send(self.get(&format!("{issuer}/.well-known/openid-configuration"))).await?;
        if !status.is_success() {
            return Err(self.failing(status));
        }
        let document = serde_json::from_slice(&body).map_err(|_| Error::untrusted("the provider does not describe itself"))?;
        check(document, issuer)
    }
}

/// The document speaks for the address that it came from, and no endpoint leaves encryption behind.
fn check(document: Document, issuer: &str) -> Result<Endpoints> {
    if document.issuer.trim_end_matches('/') != issuer {
        return Err(Error::untrusted("the provider names another issuer"));
    }
    let open = |_| Error::untrusted("an endpoint of the provider is not encrypted");
    Ok(Endpoints {
        authorize: AuthUrl::from_url(safe(&document.authorization_endpoint).map_err(open)?),
        token: TokenUrl::from_url(safe(&document.token_endpoint).map_err(open)?),
        userinfo: safe(&document.userinfo_endpoint).map_err(open)?.into(),
        issuer: document.issuer,
    })
}

/// Encrypted, or on this machine.
pub(super) fn safe(address: &str) -> std::result::Result<Url, ()> {
    Url::parse(address).ok().filter(is_safe).ok_or(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(issuer: &str, token: &str) -> Document {
        Document {
            issuer: issuer.into(),
            authorization_endpoint: "https://hub.example/oauth/authorize".into(),
            token_endpoint: token.into(),
            userinfo_endpoint: "https://hub.example/oauth/userinfo".into(),
        }
    }

    #[test]
    fn a_document_speaks_for_its_own_address_and_stays_encrypted() {
        let (issuer, token) = ("https://hub.example", "https://hub.example/oauth/token");
        assert!(check(document(issuer, token), issuer).is_ok());
        assert!(check(document("https://hub.example/", token), issuer).is_ok());
        assert!(check(document("https://evil.example", token), issuer).is_err());
        for open in ["http://hub.example/oauth/token", "http://169.254.169.254/token", "file:///etc/passwd", "/oauth/token"] {
            assert!(check(document(issuer, open), issuer).is_err(), "{open}");
        }
    }
}
