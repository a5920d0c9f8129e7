//! `GET /api/whoami-v2`: whose token it is, and where it may write.

use super::{Destination, Error, Hub, RepoId, Result};
use reqwest::Method;
use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Identity {
    pub name: String,
    #[serde(default)]
    orgs: Vec<Organisation>,
    #[serde(default)]
    auth: Auth,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Organisation {
    name: String,
    /// `read` in organisations where one may only look.
    #[serde(default, rename = "roleInOrg")]
    role: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Auth {
    /// Absent for tokens of OAuth, whose scopes the Hub itself checks.
    #[serde(default, rename = "accessToken")]
    access_token: Option<AccessToken>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct AccessToken {
    /// `read`, `write` or `fineGrained`.
    #[serde(default)]
    role: String,
}

impl Hub {
    pub async fn whoami(&self) -> Result<Identity> {
        let what = "say whose token this is";
        self.send(what, self.request(Method::GET, "/api/whoami-v2")).await?.json(what)
    }
}

impl Identity {
    /// The repository meant, where this token may write at all. The Hub has the last word.
    pub fn repository(&self, destination: &Destination) -> Result<RepoId> {
        if self.auth.access_token.as_ref().is_some_and(|token| token.role == "read") {
            return Err(Error::Forbidden { what: "write anything".to_owned(), said: "it was made for reading only".to_owned() });
        }
        let repo = destination.of(&self.name);
        if repo.owner != self.name && !self.orgs.iter().any(|org| org.name == repo.owner && org.role.as_deref() != Some("read")) {
            let writable = self.orgs.iter().filter(|org| org.role.as_deref() != Some("read")).map(|org| org.name.as_str());
            let places = std::iter::once(self.name.as_str()).chain(writable).collect::<Vec<_>>().join(", ");
            return Err(Error::refused(format!(
                "This token belongs to {}, who cannot publish under {:?}; choose one of {places}.",
                self.name, repo.owner
            )));
        }
        Ok(repo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(role: &str) -> Identity {
        let text = format!(
            r#"{{"type":"user","name":"ada","orgs":[{{"name":"salon","roleInOrg":"write"}},{{"name":"louvre","roleInOrg":"read"}}],
                "auth":{{"type":"access_token","accessToken":{{"displayName":"x","role":"{role}"}}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_token_writes_for_its_owner_and_their_organisations() {
        let to = |text: &str, role: &str| identity(role).repository(&text.parse().unwrap()).map(|repo| repo.to_string());
        assert_eq!(to("mucha", "write").unwrap(), "ada/mucha");
        assert_eq!(to("salon/mucha", "fineGrained").unwrap(), "salon/mucha");
        assert_eq!(to("louvre/mucha", "write").unwrap_err().status(), 422);
        assert!(to("bob/mucha", "write").unwrap_err().to_string().contains("ada, salon"));
        assert_eq!(to("mucha", "read").unwrap_err().status(), 403);
    }
}
