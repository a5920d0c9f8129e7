//! Git LFS: which files are large, where they go, whole or in parts.

use super::{
    Shared,
    answers::{Answer, Refusal, refuse},
    content::bytes,
};
use atelier::hub::package::File;
use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// As the Hub's `.gitattributes` has it: by name.
pub async fn preupload(
    State(shared): State<Shared>,
    Path((owner, name, _)): Path<(String, String, String)>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Answer {
    let (token, account) = shared.account(&headers)?;
    shared.lock().writable(&format!("{owner}/{name}"), &token, &account)?;
    let mode = |file: &Value| {
        let path = file["path"].as_str().unwrap_or_default();
        let mode = if [".safetensors", ".png"].iter().any(|end| path.ends_with(end)) { "lfs" } else { "regular" };
        json!({"path": path, "uploadMode": mode, "shouldIgnore": false, "oid": null})
    };
    let files: Vec<Value> = body["files"].as_array().into_iter().flatten().map(mode).collect();
    Ok(Json(json!({"files": files, "commitOid": "0"})).into_response())
}

pub async fn batch(State(shared): State<Shared>, Path((owner, name)): Path<(String, String)>, headers: HeaderMap, body: Bytes) -> Answer {
    let (token, account) = shared.account(&headers)?;
    let id = format!("{owner}/{}", name.strip_suffix(".git").unwrap_or(&name));
    let mut state = shared.lock();
    state.writable(&id, &token, &account)?;
    let body: Value = serde_json::from_slice(&body).map_err(|error| Refusal(StatusCode::BAD_REQUEST, "", error.to_string()))?;
    let object = |object: &Value| {
        let (oid, size) = (object["oid"].as_str().unwrap_or_default(), object["size"].as_u64().unwrap_or_default());
        if state.objects.contains_key(oid) {
            return json!({"oid": oid, "size": size});
        }
        let address = format!("{}/storage/{oid}", shared.storage);
        let mut headers = Map::new();
        if let Some(part) = state.part_size {
            headers.insert("chunk_size".into(), part.to_string().into());
            headers.extend((1..=(size as usize).div_ceil(part)).map(|number| (number.to_string(), format!("{address}/{number}").into())));
        }
        let actions = json!({"upload": {"href": address, "header": headers}, "verify": {"href": format!("{}/verify", shared.endpoint)}});
        json!({"oid": oid, "size": size, "actions": actions})
    };
    let objects: Vec<Value> = body["objects"].as_array().into_iter().flatten().map(object).collect();
    let transfer = if state.part_size.is_some() { "multipart" } else { "basic" };
    Ok(Json(json!({"transfer": transfer, "objects": objects})).into_response())
}

pub async fn put_whole(State(shared): State<Shared>, Path(oid): Path<String>, body: Bytes) -> Answer {
    keep(&shared, &oid, body)
}

pub async fn put_part(State(shared): State<Shared>, Path((oid, part)): Path<(String, usize)>, body: Bytes) -> Response {
    let etag = format!("\"{}\"", File::new("", body.clone()).git_oid);
    shared.lock().parts.insert((oid, part), body);
    [(header::ETAG, etag)].into_response()
}

pub async fn complete(State(shared): State<Shared>, Path(oid): Path<String>, Json(body): Json<Value>) -> Answer {
    let mut whole = Vec::new();
    for part in body["parts"].as_array().into_iter().flatten() {
        let number = part["partNumber"].as_u64().unwrap_or_default() as usize;
        let content = shared.lock().parts.get(&(oid.clone(), number)).cloned();
        match content {
            Some(content) if part["etag"] == format!("\"{}\"", File::new("", content.clone()).git_oid) => whole.extend_from_slice(&content),
            _ => return refuse(StatusCode::BAD_REQUEST, "", format!("part {number} is missing or has another ETag")),
        }
    }
    keep(&shared, &oid, whole.into())
}

fn keep(shared: &Shared, oid: &str, content: Bytes) -> Answer {
    if File::new("", content.clone()).sha256 != oid {
        return refuse(StatusCode::BAD_REQUEST, "", "The content has another SHA-256");
    }
    shared.lock().objects.insert(oid.to_owned(), content);
    Ok(StatusCode::OK.into_response())
}

/// The Hub's own, so it wants a token again.
pub async fn verify(State(shared): State<Shared>, headers: HeaderMap, Json(body): Json<Value>) -> Answer {
    shared.account(&headers)?;
    let oid = body["oid"].as_str().unwrap_or_default();
    match shared.lock().objects.get(oid) {
        Some(content) if body["size"] == content.len() => Ok(StatusCode::OK.into_response()),
        _ => refuse(StatusCode::NOT_FOUND, "", "The object is not there"),
    }
}

pub async fn get_object(State(shared): State<Shared>, Path(oid): Path<String>) -> Answer {
    match shared.lock().objects.get(&oid) {
        Some(content) => Ok(bytes(content.clone())),
        None => refuse(StatusCode::NOT_FOUND, "", "There is no such object"),
    }
}
