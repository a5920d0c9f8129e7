//! What people allowed by signing in. Kept in memory alone: a stolen disk publishes nothing, and a restart asks again.

use crate::{hub::Token, store::now};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

#[derive(Clone, Debug)]
pub struct Grant {
    token: Token,
    /// Seconds since 1970.
    ends: i64,
    /// What was asked for and not given.
    pub missing: Vec<String>,
    publishes: bool,
}

/// Any of them lets an adapter go to the Hub; the first is all that Atelier needs.
const PUBLISHING: [&str; 3] = ["contribute-repos", "write-repos", "manage-repos"];

impl Grant {
    pub fn new(token: Token, lasts: Duration, granted: Vec<String>, asked: &[String]) -> Self {
        let missing = asked.iter().filter(|scope| !granted.contains(scope)).cloned().collect();
        let publishes = granted.iter().any(|scope| PUBLISHING.contains(&scope.as_str()));
        Self { token, ends: now().saturating_add_unsigned(lasts.as_secs()), missing, publishes }
    }

    /// To publish with; else why not, and what to do.
    pub fn token(grant: Option<&Self>) -> Result<Token, String> {
        match grant {
            None => {
                Err("Atelier was restarted since you signed in, and keeps nobody's permission on disk. Sign in again to publish.".into())
            }
            Some(grant) if grant.ends <= now() => Err("Your permission to publish has expired. Sign in again to publish.".into()),
            Some(grant) if !grant.publishes => Err(format!(
                "You signed in without the permission “{}”, which publishing needs. Sign in again, and leave it ticked.",
                PUBLISHING[0]
            )),
            Some(grant) => Ok(grant.token.clone()),
        }
    }
}

/// By sign-in.
#[derive(Default)]
pub struct Grants(Mutex<HashMap<String, Grant>>);

impl Grants {
    pub fn keep(&self, sign_in: String, grant: Grant) {
        let mut grants = self.lock();
        // An expired one says so for a day; then it is as if the server had been restarted.
        grants.retain(|_, grant| grant.ends + 24 * 3600 > now());
        grants.insert(sign_in, grant);
    }

    pub fn of(&self, sign_in: &str) -> Option<Grant> {
        self.lock().get(sign_in).cloned()
    }

    pub fn forget(&self, sign_in: &str) {
        self.lock().remove(sign_in);
    }

    /// Every change is one call: a panic elsewhere leaves the map whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Grant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(seconds: u64, granted: &str) -> Grant {
        let scopes = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let asked = scopes("openid profile contribute-repos gated-repos");
        Grant::new(Token::new("hf_oauth_x").unwrap(), Duration::from_secs(seconds), scopes(granted), &asked)
    }

    #[test]
    fn what_is_missing_is_said() {
        assert!(Grant::token(Some(&grant(60, "openid profile contribute-repos"))).is_ok());
        assert!(Grant::token(Some(&grant(60, "openid write-repos"))).is_ok());
        assert_eq!(grant(60, "openid profile contribute-repos").missing, ["gated-repos"]);
        let why = |grant: Option<&Grant>| Grant::token(grant).unwrap_err();
        assert!(why(Some(&grant(60, "openid profile"))).contains("contribute-repos"));
        assert!(why(Some(&grant(0, "openid contribute-repos"))).contains("expired"));
        assert!(why(None).contains("restarted"));
    }
}
