//! The cookies: encrypted, out of scripts' reach, and named so that no other site below the same domain can set them.

use super::{SESSION, routes::Begun};
use crate::store::SessionKey;
use axum::http::{HeaderMap, HeaderValue, header};
use cookie::{Cookie, CookieJar, Key, SameSite, time::Duration};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha512};

pub struct Cookies {
    key: Key,
    encrypted_site: bool,
}

/// Somebody who is at the provider has so long to come back.
const BEGUN_SECONDS: i64 = 15 * 60;

const DIRECT: &str = "session";
/// In a frame of another site's page: browsers keep a jar of its own for each such site.
const FRAMED: &str = "session-frame";
const BEGUN: &str = "sign-in";

impl Cookies {
    /// Without a secret one is made, which ends with the process.
    pub fn new(secret: Option<&SecretString>, encrypted_site: bool) -> Self {
        let key = match secret {
            // A digest for this purpose alone: the same secret may serve elsewhere.
            Some(secret) => Key::from(&Sha512::digest(format!("atelier cookies, 1\n{}", secret.expose_secret()))),
            None => Key::generate(),
        };
        Self { key, encrypted_site }
    }

    /// Keys of sessions that the browser shows.
    pub fn sessions(&self, headers: &HeaderMap) -> Vec<SessionKey> {
        let values = [DIRECT, FRAMED].into_iter().filter_map(|name| self.value(headers, name));
        values.map(|value| SessionKey::from_browser(&value)).collect()
    }

    pub fn begun(&self, headers: &HeaderMap) -> Option<Begun> {
        serde_json::from_str(&self.value(headers, BEGUN)?).ok()
    }

    pub fn keep_begun(&self, begun: &Begun) -> HeaderValue {
        self.set(self.cookie(BEGUN, serde_json::to_string(begun).unwrap_or_default(), BEGUN_SECONDS))
    }

    pub fn forget_begun(&self) -> HeaderValue {
        self.set(self.cookie(BEGUN, String::new(), 0))
    }

    pub fn keep_session(&self, key: &SessionKey) -> HeaderValue {
        self.set(self.cookie(DIRECT, key.secret().to_owned(), SESSION))
    }

    pub fn keep_framed_session(&self, key: &SessionKey) -> HeaderValue {
        self.set(framed(self.cookie(FRAMED, key.secret().to_owned(), SESSION)))
    }

    pub fn forget_sessions(&self) -> [HeaderValue; 2] {
        [self.set(self.cookie(DIRECT, String::new(), 0)), self.set(framed(self.cookie(FRAMED, String::new(), 0)))]
    }

    fn cookie(&self, name: &str, value: String, seconds: i64) -> Cookie<'static> {
        let cookie = Cookie::build((self.name(name), value)).path("/").max_age(Duration::seconds(seconds));
        cookie.http_only(true).secure(self.encrypted_site).same_site(SameSite::Lax).build()
    }

    /// `__Host-`: browsers take it from this very host alone, over TLS, and for all of it.
    fn name(&self, name: &str) -> String {
        if self.encrypted_site { format!("__Host-{name}") } else { name.to_owned() }
    }

    /// What a cookie says, if it was made here under this name.
    fn value(&self, headers: &HeaderMap, name: &str) -> Option<String> {
        let (jar, name) = (CookieJar::new(), self.name(name));
        let sent = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(Cookie::split_parse);
        let named = sent.flatten().filter(|cookie| cookie.name() == name);
        let mut ours = named.filter_map(|cookie| jar.private(&self.key).decrypt(cookie.into_owned()));
        ours.next().map(|cookie| cookie.value().to_owned())
    }

    /// The header that sets it, its value encrypted.
    fn set(&self, cookie: Cookie<'static>) -> HeaderValue {
        let mut jar = CookieJar::new();
        jar.private_mut(&self.key).add(cookie);
        let header = jar.delta().next().map(ToString::to_string).unwrap_or_default();
        HeaderValue::try_from(header).expect("Base64 and names of ours")
    }
}

fn framed(mut cookie: Cookie<'static>) -> Cookie<'static> {
    cookie.set_same_site(SameSite::None);
    cookie.set_secure(true);
    cookie.set_partitioned(true);
    cookie
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SessionKey {
        SessionKey::from_browser("a key")
    }

    /// As a browser sends it back.
    fn sent(set: &HeaderValue) -> HeaderMap {
        let pair = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::try_from(pair).unwrap())])
    }

    #[test]
    fn a_cookie_is_read_by_its_maker_alone_and_under_its_own_name() {
        let cookies = Cookies::new(Some(&"a secret of thirty-two letters or so".into()), true);
        let set = cookies.keep_session(&key());
        let text = set.to_str().unwrap();
        for words in ["__Host-session=", "HttpOnly", "Secure", "SameSite=Lax", "Path=/", "Max-Age=604800"] {
            assert!(text.contains(words), "{text}");
        }
        assert!(!text.contains("a key") && !text.contains("Partitioned") && !text.contains("Domain"));
        assert_eq!(cookies.sessions(&sent(&set)), [key()]);
        assert!(Cookies::new(None, true).sessions(&sent(&set)).is_empty(), "another server's");
        let moved = text.replace("__Host-session=", "__Host-session-frame=");
        assert!(cookies.sessions(&sent(&HeaderValue::try_from(moved).unwrap())).is_empty(), "under another name");
    }

    #[test]
    fn a_frame_has_a_jar_of_its_own() {
        let text = Cookies::new(None, true).keep_framed_session(&key());
        let text = text.to_str().unwrap();
        for words in ["__Host-session-frame=", "HttpOnly", "Secure", "SameSite=None", "Partitioned"] {
            assert!(text.contains(words), "{text}");
        }
    }
}
