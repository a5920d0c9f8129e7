//! The ID token: for whom, from whom, until when, and for which sign-in.
//!
//! It came straight from the token endpoint over TLS, which vouches for the issuer in place of a signature
//! (<https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation>, rule 6); every claim is checked all the same.

use super::{Error, Result};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// Clocks that differ by this much are forgiven, seconds.
const LEEWAY: u64 = 60;

pub(super) struct Expected<'a> {
    pub issuer: &'a str,
    pub app: &'a str,
    pub nonce: &'a str,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: u64,
    nonce: Option<String>,
    azp: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// Whom it speaks of.
pub(super) fn subject(token: &str, expected: &Expected<'_>) -> Result<String> {
    let claims = claims(token).ok_or(Error::untrusted("there is no ID token"))?;
    let for_us = match &claims.aud {
        Audience::One(app) => app == expected.app,
        Audience::Several(apps) => apps.iter().any(|app| app == expected.app),
    };
    if claims.iss != expected.issuer {
        return Err(Error::untrusted("the ID token is of another provider"));
    }
    if !for_us || claims.azp.is_some_and(|app| app != expected.app) {
        return Err(Error::untrusted("the ID token is for another app"));
    }
    if claims.nonce.as_deref() != Some(expected.nonce) {
        return Err(Error::untrusted("the ID token is of another sign-in"));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    if claims.exp.saturating_add(LEEWAY) <= now {
        return Err(Error::untrusted("the ID token has expired"));
    }
    if claims.sub.is_empty() || claims.sub.len() > 255 {
        return Err(Error::untrusted("the ID token speaks of nobody"));
    }
    Ok(claims.sub)
}

fn claims(token: &str) -> Option<Claims> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn token(changed: Value) -> String {
        let mut claims = json!({"iss": "https://hub.example", "sub": "5f1", "aud": "app", "exp": 99_999_999_999_u64, "nonce": "n"});
        for (name, value) in changed.as_object().unwrap() {
            claims[name] = value.clone();
        }
        format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn every_claim_counts() {
        let expected = Expected { issuer: "https://hub.example", app: "app", nonce: "n" };
        for good in [json!({}), json!({"aud": ["app", "other"]}), json!({"azp": "app"})] {
            assert_eq!(subject(&token(good), &expected).unwrap(), "5f1");
        }
        for bad in [
            json!({"iss": "https://evil.example"}),
            json!({"aud": "other"}),
            json!({"aud": ["other"]}),
            json!({"azp": "other"}),
            json!({"nonce": "m"}),
            json!({"nonce": null}),
            json!({"exp": 1}),
            json!({"sub": ""}),
        ] {
            assert!(subject(&token(bad.clone()), &expected).is_err(), "{bad}");
        }
        for bad in ["", "a.b", "a.!!.c", "e30.e30.e30"] {
            assert!(subject(bad, &expected).is_err(), "{bad}");
        }
    }
}
