//! Model repositories: their names, what they hold, and their making and unmaking.

use super::{Error, Hub, Result};
use reqwest::{Method, header::LINK};
use serde::Deserialize;
use serde_json::json;
use std::{collections::BTreeMap, fmt, str::FromStr};

/// `OWNER/NAME`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoId {
    pub owner: String,
    pub name: String,
}

/// Where to publish: `OWNER/NAME`, or a name alone for an account that is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub owner: Option<String>,
    pub name: String,
}

impl Destination {
    pub fn of(&self, account: &str) -> RepoId {
        RepoId { owner: self.owner.clone().unwrap_or_else(|| account.to_owned()), name: self.name.clone() }
    }
}

impl FromStr for Destination {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let (owner, name) = match text.split_once('/') {
            Some((owner, name)) => (Some(owner.to_owned()), name.to_owned()),
            None => (None, text.to_owned()),
        };
        if owner.as_deref().is_some_and(|owner| !is_name(owner)) || !is_name(&name) {
            let shown: String = text.chars().take(100).collect();
            return Err(Error::refused(format!(
                "{shown:?} is no name for a repository; write NAME or OWNER/NAME, with letters, digits, - _ . and up to 96 characters."
            )));
        }
        Ok(Self { owner, name })
    }
}

/// The Hub's rule for both halves of a name.
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let ends = |c: char| c == '-' || c == '.';
    (1..=96).contains(&text.len())
        && text.chars().all(plain)
        && !text.starts_with(ends)
        && !text.ends_with(ends)
        && !text.contains("--")
        && !text.contains("..")
        && !text.ends_with(".git")
        && !text.ends_with(".ipynb")
}

impl FromStr for RepoId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.parse()? {
            Destination { owner: Some(owner), name } => Ok(Self { owner, name }),
            Destination { name, .. } => Err(Error::refused(format!("{name:?} lacks its owner; write OWNER/{name}."))),
        }
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Info {
    /// The newest commit.
    pub sha: String,
    #[serde(default)]
    pub private: bool,
}

/// A file of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Entry {
    pub path: String,
    #[serde(default)]
    pub size: u64,
    /// Git's own name of the content: SHA-1 of a blob.
    pub oid: String,
    pub lfs: Option<Lfs>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Lfs {
    /// SHA-256
    pub oid: String,
    pub size: u64,
}

impl Hub {
    /// `None` when there is none, or none that this token may see.
    pub async fn info(&self, repo: &RepoId) -> Result<Option<Info>> {
        let what = format!("look at {repo}");
        match self.send(&what, self.request(Method::GET, &format!("/api/models/{repo}"))).await {
            Ok(answer) => Ok(Some(answer.json(&what)?)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// True when it was made now; false when it had been there.
    pub async fn create(&self, repo: &RepoId, account: &str, private: bool) -> Result<bool> {
        let mut body = json!({"name": repo.name, "type": "model", "private": private});
        name_organisation(&mut body, repo, account);
        let what = format!("create {repo}");
        match self.send(&what, self.request(Method::POST, "/api/repos/create").json(&body)).await {
            Ok(_) => Ok(true),
            // A lost answer's second attempt hears this too; so may a token that may write here but not create.
            Err(error @ (Error::Conflict { .. } | Error::Forbidden { .. })) => match self.info(repo).await? {
                Some(_) => Ok(false),
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// One that is gone already is no error.
    pub async fn delete(&self, repo: &RepoId, account: &str) -> Result<()> {
        let mut body = json!({"name": repo.name, "type": "model"});
        name_organisation(&mut body, repo, account);
        match self.send(&format!("delete {repo}"), self.request(Method::DELETE, "/api/repos/delete").json(&body)).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub async fn set_private(&self, repo: &RepoId, private: bool) -> Result<()> {
        let what = format!("make {repo} {}", if private { "private" } else { "public" });
        let request = self.request(Method::PUT, &format!("/api/models/{repo}/settings"));
        self.send(&what, request.json(&json!({"private": private}))).await.map(drop)
    }

    /// Every file of a commit, by path.
    pub async fn tree(&self, repo: &RepoId, revision: &str) -> Result<BTreeMap<String, Entry>> {
        let what = format!("list the files of {repo}");
        let mut request = self.request(Method::GET, &format!("/api/models/{repo}/tree/{revision}?recursive=true"));
        let mut files = BTreeMap::new();
        loop {
            let answer = self.send(&what, request).await?;
            let next = answer.headers.get(LINK).and_then(|link| next_page(link.to_str().ok()?));
            let page: Vec<serde_json::Value> = answer.json(&what)?;
            for entry in page.into_iter().filter(|entry| entry["type"] == "file") {
                let entry: Entry = serde_json::from_value(entry).map_err(|error| Error::malformed(format!("{what}: {error}")))?;
                files.insert(entry.path.clone(), entry);
            }
            match next {
                Some(address) => request = self.request_to(Method::GET, &address, true),
                None => return Ok(files),
            }
        }
    }
}

fn name_organisation(body: &mut serde_json::Value, repo: &RepoId, account: &str) {
    if repo.owner != account {
        body["organization"] = repo.owner.clone().into();
    }
}

/// `<https://…>; rel="next"`
fn next_page(link: &str) -> Option<String> {
    let part = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    Some(part.trim().strip_prefix('<')?.split('>').next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_hub_takes() {
        for good in ["mucha", "ada/mucha-v2", "A.b_c/9"] {
            assert!(good.parse::<Destination>().is_ok(), "{good}");
        }
        for bad in ["", "/", "a/", "/b", "a/b/c", "a b", "a--b", "-a", "a.", "a..b", "é", "a/x.git", "..", "a/../b", &"x".repeat(97)] {
            assert!(bad.parse::<Destination>().is_err(), "{bad}");
        }
        assert!("mucha".parse::<RepoId>().is_err());
    }

    #[test]
    fn the_next_page_is_found() {
        assert_eq!(next_page("<https://a/b?cursor=1>; rel=\"next\"").as_deref(), Some("https://a/b?cursor=1"));
        assert_eq!(next_page("<https://a/b>; rel=\"prev\""), None);
    }
}
