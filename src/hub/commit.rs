//! `POST /api/models/{repo}/commit/main`: every change of a publication in one commit, as lines of JSON.

use super::{Error, Hub, MAIN, RepoId, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use reqwest::{Method, header::CONTENT_TYPE};
use serde::Deserialize;
use serde_json::{Value, json};

/// One change of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A small file, within the commit.
    Write {
        path: String,
        content: Bytes,
    },
    /// A file that lies in the large file storage already.
    Point {
        path: String,
        sha256: String,
        size: u64,
    },
    Delete {
        path: String,
    },
}

pub struct Commit<'a> {
    pub summary: &'a str,
    /// The commit that these changes were made for: the Hub refuses them when another came between.
    pub parent: &'a str,
    pub changes: &'a [Change],
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "commitOid")]
    commit: String,
}

impl Hub {
    /// The new commit's name. Sent once: whoever calls it looks whether a lost answer meant a commit.
    pub(super) async fn commit(&self, repo: &RepoId, commit: &Commit<'_>) -> Result<String> {
        let what = format!("write to {repo}");
        let request = self.request(Method::POST, &format!("/api/models/{repo}/commit/{MAIN}"));
        let request = request.header(CONTENT_TYPE, "application/x-ndjson").body(lines(commit));
        let answer: Answer = self.send_once(&what, request).await?.json(&what)?;
        match answer.commit.as_str() {
            oid if oid.len() == 40 && oid.bytes().all(|byte| byte.is_ascii_hexdigit()) => Ok(answer.commit),
            _ => Err(Error::malformed("a commit without a name")),
        }
    }
}

fn lines(commit: &Commit<'_>) -> String {
    let header = json!({"key": "header", "value": {"summary": commit.summary, "description": "", "parentCommit": commit.parent}});
    std::iter::once(header).chain(commit.changes.iter().map(line)).map(|line| format!("{line}\n")).collect()
}

fn line(change: &Change) -> Value {
    match change {
        Change::Write { path, content } => {
            json!({"key": "file", "value": {"path": path, "content": BASE64_STANDARD.encode(content), "encoding": "base64"}})
        }
        Change::Point { path, sha256, size } => {
            json!({"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": sha256, "size": size}})
        }
        Change::Delete { path } => json!({"key": "deletedFile", "value": {"path": path}}),
    }
}
