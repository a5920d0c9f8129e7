//! Refusals as the Hub words them, and who asks.

use super::{Account, Repo, Role, Shared, State};
use axum::{
    Json,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

pub type Answer<T = Response> = Result<T, Refusal>;

#[derive(Debug)]
pub struct Refusal(pub StatusCode, pub &'static str, pub String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, [("x-error-code", self.1)], Json(json!({"error": self.2}))).into_response()
    }
}

pub fn refuse<T>(status: StatusCode, code: &'static str, words: impl Into<String>) -> Answer<T> {
    Err(Refusal(status, code, words.into()))
}

pub fn token(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

impl Shared {
    /// Who asks; a wrong token is repeated in the refusal, as careless servers do.
    pub fn account(&self, headers: &HeaderMap) -> Answer<(String, Account)> {
        let Some(token) = token(headers) else { return refuse(StatusCode::UNAUTHORIZED, "", "Invalid username or password.") };
        match self.lock().accounts.get(token) {
            Some(account) => Ok((token.to_owned(), account.clone())),
            None => refuse(StatusCode::UNAUTHORIZED, "", format!("Invalid user token {token}.")),
        }
    }
}

impl State {
    pub fn visible(&self, id: &str, headers: &HeaderMap) -> Answer<&Repo> {
        let owned =
            token(headers).and_then(|token| self.accounts.get(token)).is_some_and(|account| id.starts_with(&format!("{}/", account.name)));
        match self.repos.get(id) {
            Some(repo) if !repo.private || owned => Ok(repo),
            _ => refuse(StatusCode::NOT_FOUND, "RepoNotFound", "Repository not found"),
        }
    }

    /// The repository, if this token may write there.
    pub fn writable(&mut self, id: &str, token: &str, account: &Account) -> Answer<&mut Repo> {
        let Some(repo) = self.repos.get_mut(id) else { return refuse(StatusCode::NOT_FOUND, "RepoNotFound", "Repository not found") };
        let own = id.starts_with(&format!("{}/", account.name));
        let by_the_app = self.accounts.get(&repo.made_by).is_some_and(|maker| maker.role == Role::Contribute);
        let allowed = match account.role {
            Role::Read => false,
            Role::Write => own,
            Role::Contribute => own && by_the_app,
        };
        if allowed { Ok(repo) } else { refuse(StatusCode::FORBIDDEN, "", format!("The token {token} has not the required permissions")) }
    }
}
