//! Large files by Git LFS: which files the Hub wants that way, where to put them, whole or in parts.

use super::{Error, Hub, MAIN, RepoId, Result, package::File};
use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{
    Method,
    header::{ACCEPT, CONTENT_TYPE, ETAG},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

const LFS_JSON: &str = "application/vnd.git-lfs+json";
/// Bytes of a file by which the Hub judges whether it is text.
const SAMPLE: usize = 512;

#[derive(Deserialize)]
struct Preupload {
    files: Vec<Mode>,
}

#[derive(Deserialize)]
struct Mode {
    path: String,
    #[serde(rename = "uploadMode")]
    mode: String,
    #[serde(default, rename = "shouldIgnore")]
    ignored: bool,
}

#[derive(Deserialize)]
struct Batch {
    #[serde(default)]
    transfer: Option<String>,
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    /// Absent when the Hub has the content already.
    #[serde(default)]
    actions: Option<Actions>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Actions {
    upload: Option<Action>,
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: HashMap<String, Value>,
}

impl Hub {
    /// The paths that are to go into the large file storage; the others fit into the commit.
    pub(super) async fn large_files(&self, repo: &RepoId, files: &[&File]) -> Result<BTreeSet<String>> {
        let what = format!("take files for {repo}");
        let described: Vec<Value> = files
            .iter()
            .map(|file| {
                let sample = BASE64_STANDARD.encode(&file.content[..file.content.len().min(SAMPLE)]);
                json!({"path": file.path, "size": file.content.len(), "sample": sample})
            })
            .collect();
        let request = self.request(Method::POST, &format!("/api/models/{repo}/preupload/{MAIN}")).json(&json!({"files": described}));
        let answer: Preupload = self.send(&what, request).await?.json(&what)?;
        if let Some(file) = answer.files.iter().find(|file| file.ignored) {
            return Err(Error::refused(format!(
                "The repository {repo} has a .gitignore that leaves out {}; remove that line there, or choose another name.",
                file.path
            )));
        }
        Ok(answer.files.into_iter().filter(|file| file.mode == "lfs").map(|file| file.path).collect())
    }

    /// Brings a file into the storage, unless its content is there already.
    pub(super) async fn upload(&self, repo: &RepoId, file: &File) -> Result<()> {
        let what = format!("take {}", file.path);
        let object = json!({"oid": file.sha256, "size": file.content.len()});
        let body = json!({
            "operation": "upload", "transfers": ["basic", "multipart"], "objects": [object], "hash_algo": "sha256", "ref": {"name": MAIN},
        });
        let request = self.request(Method::POST, &format!("/{repo}.git/info/lfs/objects/batch"));
        let request = request.header(ACCEPT, LFS_JSON).header(CONTENT_TYPE, LFS_JSON).body(body.to_string());
        let batch: Batch = self.send(&what, request).await?.json(&what)?;
        if batch.transfer.as_deref() == Some("xet") {
            return Err(Error::malformed("it takes large files by Xet only"));
        }
        let wanted = batch.objects.into_iter().find(|object| object.oid == file.sha256);
        let object = wanted.ok_or_else(|| Error::malformed("an upload without an address"))?;
        if let Some(error) = object.error {
            let said = error["message"].as_str().unwrap_or_default().chars().take(300).collect();
            return Err(Error::Rejected { what, status: error["code"].as_u64().unwrap_or(400) as u16, said });
        }
        let Some(Actions { upload: Some(upload), verify }) = object.actions else { return Ok(()) };
        match upload.header.get("chunk_size") {
            Some(size) => self.put_parts(&what, file, &upload, size).await?,
            None => self.put_whole(&what, file, &upload).await?,
        }
        let Some(verify) = verify else { return Ok(()) };
        let request = self.request_to(Method::POST, &verify.href, true);
        self.send(&what, request.json(&json!({"oid": file.sha256, "size": file.content.len()}))).await.map(drop)
    }

    async fn put_whole(&self, what: &str, file: &File, upload: &Action) -> Result<()> {
        let mut request = self.request_to(Method::PUT, &upload.href, false).body(file.content.clone());
        for (name, value) in &upload.header {
            if let Some(value) = value.as_str() {
                request = request.header(name, value);
            }
        }
        self.send(what, request).await.map(drop)
    }

    /// `header` maps `"1"`, `"2"`, … to the addresses of the parts; `href` hears when all are there.
    async fn put_parts(&self, what: &str, file: &File, upload: &Action, size: &Value) -> Result<()> {
        let size = size.as_u64().or_else(|| size.as_str()?.parse().ok()).and_then(|size| usize::try_from(size).ok());
        let size = size.filter(|size| *size > 0).ok_or_else(|| Error::malformed("an upload in parts of no size"))?;
        let numbered = upload.header.iter().filter_map(|(name, address)| Some((name.parse::<usize>().ok()?, address.as_str()?)));
        let addresses: BTreeMap<usize, &str> = numbered.collect();
        let chunks = file.content.len().div_ceil(size);
        if addresses.len() != chunks || !addresses.keys().copied().eq(1..=chunks) {
            return Err(Error::malformed("an upload in parts that do not add up"));
        }
        let mut parts = Vec::with_capacity(chunks);
        for (number, address) in addresses {
            let from = (number - 1) * size;
            let chunk = file.content.slice(from..file.content.len().min(from + size));
            let answer = self.send(what, self.request_to(Method::PUT, address, false).body(chunk)).await?;
            let etag = answer.headers.get(ETAG).and_then(|etag| etag.to_str().ok());
            let etag = etag.ok_or_else(|| Error::malformed("a part without an ETag"))?;
            parts.push(json!({"partNumber": number, "etag": etag}));
        }
        let body = json!({"oid": file.sha256, "parts": parts}).to_string();
        let request = self.request_to(Method::POST, &upload.href, false).header(ACCEPT, LFS_JSON).header(CONTENT_TYPE, LFS_JSON);
        self.send(what, request.body(body)).await.map(drop)
    }
}
