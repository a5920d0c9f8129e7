//! `GET /{repo}/resolve/{revision}/{path}`: a file's bytes, as anybody would get them.

use super::{Hub, RepoId, Result};
use bytes::Bytes;
use reqwest::Method;

impl Hub {
    /// The whole file.
    pub async fn download(&self, repo: &RepoId, revision: &str, path: &str) -> Result<Bytes> {
        let request = self.request(Method::GET, &format!("/{repo}/resolve/{revision}/{path}"));
        Ok(self.send(&format!("hand out {path}"), request).await?.body)
    }
}
