//! `/oauth/userinfo`: how the person is called.

use super::{
    Error, Result,
    http::{Http, plain},
};
use crate::hub::Token;
use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The provider's, for ever.
    pub id: String,
    pub username: String,
    pub name: String,
}

#[derive(Deserialize)]
struct Answer {
    sub: String,
    #[serde(default)]
    preferred_username: Option<String>,
    #[serde(default)]
    name: Option<String>,
}

impl Http {
    /// `subject` is whom the ID token spoke of: the two must agree.
    pub async fn person(&self, address: &str, token: &Token, subject: &str) -> Result<Person> {
        let (status, body) = self.send(self.get(address).bearer_auth(token.secret())).await?;
        if status.is_server_error() {
            return Err(self.failing(status));
        }
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| Error::untrusted("it is not told who signed in"))?;
        if !status.is_success() || answer.sub != subject {
            return Err(Error::untrusted("two answers speak of different people"));
        }
        let said = |text: Option<String>| text.map(|text| plain(&text)).filter(|text| !text.is_empty());
        let username = said(answer.preferred_username).unwrap_or_else(|| answer.sub.clone());
        Ok(Person { name: said(answer.name).unwrap_or_else(|| username.clone()), username, id: answer.sub })
    }
}
