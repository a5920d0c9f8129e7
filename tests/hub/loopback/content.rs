//! Commits, trees and files.

use super::{
    Blob, Commit, Shared, State as Kept,
    answers::{Answer, Refusal, refuse},
};
use atelier::hub::package::File;
use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::HashMap;

type At = Path<(String, String, String)>;

pub async fn commit(State(shared): State<Shared>, Path((owner, name, _)): At, headers: HeaderMap, body: String) -> Answer {
    let (token, account) = shared.account(&headers)?;
    let id = format!("{owner}/{name}");
    let mut state = shared.lock();
    let parent = state.writable(&id, &token, &account)?.commits.last().expect("born with one").clone();
    let mut files = parent.files;
    let mut summary = String::new();
    for line in body.lines() {
        let line: Value = serde_json::from_str(line).map_err(|error| Refusal(StatusCode::BAD_REQUEST, "", error.to_string()))?;
        let value = &line["value"];
        let path = value["path"].as_str().unwrap_or_default().to_owned();
        match line["key"].as_str() {
            Some("header") => {
                if value["parentCommit"].as_str().is_some_and(|expected| expected != parent.oid) {
                    return refuse(StatusCode::PRECONDITION_FAILED, "", "A commit has happened since. Please refresh and try again.");
                }
                summary = value["summary"].as_str().unwrap_or_default().to_owned();
            }
            Some("file") => {
                let content = BASE64_STANDARD.decode(value["content"].as_str().unwrap_or_default()).unwrap_or_default();
                files.insert(path, Blob { content: content.into(), large: false });
            }
            Some("lfsFile") => {
                let content = state.objects.get(value["oid"].as_str().unwrap_or_default()).cloned();
                let Some(content) = content else {
                    return refuse(StatusCode::BAD_REQUEST, "", format!("LFS pointer pointed to a file that does not exist: {path}"));
                };
                files.insert(path, Blob { content, large: true });
            }
            Some("deletedFile") => drop(files.remove(&path)),
            _ => return refuse(StatusCode::BAD_REQUEST, "", "Invalid line"),
        }
    }
    state.commits += 1;
    let oid = format!("{:040x}", state.commits);
    state.repos.get_mut(&id).expect("looked at above").commits.push(Commit { oid: oid.clone(), summary, files });
    let url = format!("{}/{id}/commit/{oid}", shared.endpoint);
    Ok(Json(json!({"success": true, "commitOid": oid, "commitUrl": url, "hookOutput": ""})).into_response())
}

/// Pages of five, so that every client has to turn them.
pub async fn tree(
    State(shared): State<Shared>,
    Path((owner, name, revision)): At,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Answer {
    const PAGE: usize = 5;
    let state = shared.lock();
    let commit = at(&state, &format!("{owner}/{name}"), &revision, &headers)?;
    let from: usize = query.get("cursor").and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
    let entries: Vec<Value> = commit.files.iter().skip(from).take(PAGE).map(|(path, blob)| entry(path, blob)).collect();
    let mut response = Json(entries).into_response();
    if from + PAGE < commit.files.len() {
        let next =
            format!("<{}/api/models/{owner}/{name}/tree/{revision}?recursive=true&cursor={}>; rel=\"next\"", shared.endpoint, from + PAGE);
        response.headers_mut().insert(header::LINK, HeaderValue::try_from(next).expect("an address"));
    }
    Ok(response)
}

pub async fn paths_info(
    State(shared): State<Shared>,
    Path((owner, name, revision)): At,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Answer {
    let state = shared.lock();
    let commit = at(&state, &format!("{owner}/{name}"), &revision, &headers)?;
    let wanted: Vec<&str> = body["paths"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let entries = commit.files.iter().filter(|(path, _)| wanted.contains(&path.as_str())).map(|(path, blob)| entry(path, blob));
    Ok(Json(entries.collect::<Vec<_>>()).into_response())
}

fn entry(path: &str, blob: &Blob) -> Value {
    let file = File::new(path, blob.content.clone());
    let mut entry = json!({"type": "file", "path": path, "size": blob.content.len(), "oid": file.git_oid});
    if blob.large {
        entry["oid"] = "0".repeat(40).into();
        entry["lfs"] = json!({"oid": file.sha256, "size": blob.content.len(), "pointerSize": 132});
    }
    entry
}

fn at<'a>(state: &'a Kept, id: &str, revision: &str, headers: &HeaderMap) -> Answer<&'a Commit> {
    let commits = &state.visible(id, headers)?.commits;
    let found = if revision == "main" { commits.last() } else { commits.iter().find(|commit| commit.oid == revision) };
    found.map_or_else(|| refuse(StatusCode::NOT_FOUND, "RevisionNotFound", "Invalid rev id"), Ok)
}

/// Small files come from here, large ones from the storage.
pub async fn resolve(
    State(shared): State<Shared>,
    Path((owner, name, revision, path)): Path<(String, String, String, String)>,
    headers: HeaderMap,
) -> Answer {
    let state = shared.lock();
    let commit = at(&state, &format!("{owner}/{name}"), &revision, &headers)?;
    let Some(blob) = commit.files.get(&path) else { return refuse(StatusCode::NOT_FOUND, "EntryNotFound", "Entry not found") };
    let file = File::new(path, blob.content.clone());
    let mut response = if blob.large {
        let address = format!("{}/storage/{}", shared.storage, file.sha256);
        (StatusCode::FOUND, [(header::LOCATION, address)]).into_response()
    } else {
        bytes(blob.content.clone())
    };
    let name = |name: &'static str| header::HeaderName::from_static(name);
    let etag = if blob.large { &file.sha256 } else { &file.git_oid };
    let values = [
        (name("x-repo-commit"), commit.oid.clone()),
        (name("x-linked-size"), blob.content.len().to_string()),
        (header::ETAG, format!("\"{etag}\"")),
    ];
    for (name, value) in values {
        response.headers_mut().insert(name, HeaderValue::try_from(value).expect("plain text"));
    }
    if blob.large {
        response.headers_mut().insert(name("x-linked-etag"), HeaderValue::try_from(format!("\"{etag}\"")).expect("plain text"));
    }
    Ok(response)
}

pub fn bytes(content: Bytes) -> Response {
    ([(header::CONTENT_LENGTH, content.len().to_string()), (header::CONTENT_TYPE, "application/octet-stream".into())], Body::from(content))
        .into_response()
}
