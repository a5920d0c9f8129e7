//! `GET /{repo}/resolve/{revision}/{path}`: a file's bytes, as anybody would get them.

use super::{Hub, RepoId, Result};
use bytes::Bytes;
use reqwest::Method;

impl Hub {
    /// The whole file; a connection that breaks half-way is tried again.
    pub async fn download(&self, repo: &RepoId, revision: &str, path: &str) -> Result<Bytes> {
        let what = format!("hand out {path}");
        let mut attempt = 0;
        loop {
            let response = self.send(&what, self.request(Method::GET, &format!("/{repo}/resolve/{revision}/{path}"))).await?;
            match response.bytes().await {
                Err(_) if attempt < 2 => self.pause(attempt).await,
                bytes => return bytes.map_err(|error| self.offline(&what, error)),
            }
            attempt += 1;
        }
    }
}
