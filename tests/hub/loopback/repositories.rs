//! Accounts and repositories: asked, made, changed, deleted.

use super::{
    Blob, Commit, Repo, Role, Shared,
    answers::{Answer, refuse},
};
use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
};
use bytes::Bytes;
use serde_json::{Value, json};

pub async fn whoami(State(shared): State<Shared>, headers: HeaderMap) -> Answer {
    let (_, account) = shared.account(&headers)?;
    let auth = match account.role {
        Role::Contribute => json!({"type": "oauth"}),
        Role::Read => json!({"type": "access_token", "accessToken": {"displayName": "test", "role": "read"}}),
        Role::Write => json!({"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}),
    };
    let body = json!({"type": "user", "id": "1", "name": account.name, "fullname": account.name, "isPro": false, "canPay": false,
        "avatarUrl": "", "orgs": [], "auth": auth});
    Ok(Json(body).into_response())
}

/// `NAME` with `organization`, or `OWNER/NAME`, as the Python client has it.
fn named(body: &Value, account: &str) -> String {
    let name = body["name"].as_str().unwrap_or_default();
    match body["organization"].as_str() {
        Some(organisation) => format!("{organisation}/{name}"),
        None => format!("{account}/{name}"),
    }
}

pub async fn create(State(shared): State<Shared>, headers: HeaderMap, Json(body): Json<Value>) -> Answer {
    let (token, account) = shared.account(&headers)?;
    let id = named(&body, account.name);
    if account.role == Role::Read || !id.starts_with(&format!("{}/", account.name)) {
        return refuse(StatusCode::FORBIDDEN, "", format!("You don't have the rights to create a model under the namespace of {id}"));
    }
    let mut state = shared.lock();
    if state.repos.contains_key(&id) {
        let told = json!({"error": "You already created this model repo", "url": format!("{}/{id}", shared.endpoint)});
        return Ok((StatusCode::CONFLICT, Json(told)).into_response());
    }
    state.commits += 1;
    let attributes = Blob { content: Bytes::from_static(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"), large: false };
    let first = Commit {
        oid: format!("{:040x}", state.commits),
        summary: "initial commit".into(),
        files: [(".gitattributes".into(), attributes)].into(),
    };
    let private = body["private"].as_bool().unwrap_or(body["visibility"] == "private");
    state.repos.insert(id.clone(), Repo { private, made_by: token, commits: vec![first] });
    Ok(Json(json!({"url": format!("{}/{id}", shared.endpoint), "id": id, "name": id})).into_response())
}

pub async fn delete(State(shared): State<Shared>, headers: HeaderMap, Json(body): Json<Value>) -> Answer {
    let (token, account) = shared.account(&headers)?;
    let id = named(&body, account.name);
    let mut state = shared.lock();
    state.writable(&id, &token, &account)?;
    state.repos.remove(&id);
    Ok(Json(json!({})).into_response())
}

pub async fn settings(
    State(shared): State<Shared>,
    Path((owner, name)): Path<(String, String)>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Answer {
    let (token, account) = shared.account(&headers)?;
    let mut state = shared.lock();
    let repo = state.writable(&format!("{owner}/{name}"), &token, &account)?;
    repo.private = body["private"].as_bool().unwrap_or(repo.private);
    Ok(Json(json!({"private": repo.private})).into_response())
}

pub async fn info(State(shared): State<Shared>, Path((owner, name)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    describe(&shared, &format!("{owner}/{name}"), &headers)
}

pub async fn info_at(State(shared): State<Shared>, Path((owner, name, _)): Path<(String, String, String)>, headers: HeaderMap) -> Answer {
    describe(&shared, &format!("{owner}/{name}"), &headers)
}

fn describe(shared: &Shared, id: &str, headers: &HeaderMap) -> Answer {
    let state = shared.lock();
    let repo = state.visible(id, headers)?;
    let newest = repo.commits.last().expect("a repository is born with a commit");
    let siblings: Vec<Value> = newest.files.keys().map(|path| json!({"rfilename": path})).collect();
    let author = id.split('/').next();
    Ok(Json(json!({"id": id, "modelId": id, "_id": "1", "author": author, "sha": newest.oid, "private": repo.private, "gated": false,
        "disabled": false, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings}))
    .into_response())
}
