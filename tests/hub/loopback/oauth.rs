//! The Hub as an OpenID provider: discovery, authorize, token, userinfo, strict about redirects, PKCE and codes that were used.

use super::{Account, Loopback, Role, Shared, answers};
use axum::{
    Form, Json, Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

pub const APP_ID: &str = "loopback-app";
pub const APP_SECRET: &str = "loopback-secret-that-nobody-can-guess";

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Person {
    pub id: &'static str,
    pub username: &'static str,
    pub name: &'static str,
}

pub const ADA: Person = Person { id: "64ada", username: "ada", name: "Ada Lovelace" };
pub const BOB: Person = Person { id: "64b0b", username: "bob", name: "Bob <b>Ross</b>" };

pub struct OAuth {
    /// Who sits before the browser.
    pub person: Person,
    /// Addresses that the app may send people back to.
    pub redirects: Vec<String>,
    /// What is ticked on the page of permissions; `None` is all that is asked for.
    pub granted: Option<&'static str>,
    pub denies: bool,
    pub expires_in: u64,
    /// Says something else in the ID token.
    pub lie: Option<(&'static str, &'static str)>,
    /// A page with two buttons instead of an answer at once.
    pub asks: bool,
    /// Its pages let no window know who opened it.
    pub isolated: bool,
    /// Codes that were given out, by code.
    codes: HashMap<String, Code>,
    /// Every token, newest last.
    pub tokens: Vec<String>,
    people: HashMap<String, Person>,
    given: u64,
}

struct Code {
    query: HashMap<String, String>,
    person: Person,
    scope: String,
}

impl Default for OAuth {
    fn default() -> Self {
        Self {
            person: ADA,
            redirects: Vec::new(),
            granted: None,
            denies: false,
            expires_in: 28_800,
            lie: None,
            asks: false,
            isolated: false,
            codes: HashMap::new(),
            tokens: Vec::new(),
            people: HashMap::new(),
            given: 0,
        }
    }
}

impl Loopback {
    pub fn oauth(&self, change: impl FnOnce(&mut OAuth)) {
        change(&mut self.state().oauth);
    }

    pub fn newest_token(&self) -> String {
        self.state().oauth.tokens.last().cloned().expect("somebody signed in")
    }

    /// The Hub no longer knows this token.
    pub fn revoke(&self, token: &str) {
        self.state().accounts.remove(token);
    }
}

pub fn routes() -> Router<Shared> {
    Router::new()
        .route("/.well-known/openid-configuration", get(configuration))
        .route("/oauth/authorize", get(authorize))
        .route("/oauth/agree", get(agree))
        .route("/oauth/token", post(token))
        .route("/oauth/userinfo", get(userinfo))
        .route("/frame", get(frame))
}

async fn configuration(State(shared): State<Shared>) -> Json<Value> {
    let at = |path: &str| format!("{}/oauth/{path}", shared.endpoint);
    Json(json!({
        "issuer": shared.endpoint,
        "authorization_endpoint": at("authorize"),
        "token_endpoint": at("token"),
        "userinfo_endpoint": at("userinfo"),
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
    }))
}

type Fields = HashMap<String, String>;

fn field<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.get(name).map(String::as_str).unwrap_or_default()
}

async fn authorize(State(shared): State<Shared>, Query(query): Query<Fields>) -> Response {
    let (asks, isolated) = {
        let state = shared.lock();
        // Nobody is sent to an address that the app did not name.
        if field(&query, "client_id") != APP_ID || !state.oauth.redirects.iter().any(|uri| uri == field(&query, "redirect_uri")) {
            return (StatusCode::BAD_REQUEST, "Unknown app, or redirect_uri is not one of its own.").into_response();
        }
        (state.oauth.asks, state.oauth.isolated)
    };
    let whole = field(&query, "response_type") == "code"
        && field(&query, "code_challenge_method") == "S256"
        && ["state", "nonce", "code_challenge"].iter().all(|name| field(&query, name).len() >= 16);
    if !whole {
        return back(&query, &[("error", "invalid_request")]);
    }
    if asks { ask(&query, isolated) } else { agree(State(shared), Query(query)).await }
}

async fn frame(Query(query): Query<Fields>) -> Html<String> {
    let address = field(&query, "address").replace('"', "&quot;");
    Html(format!(
        "<!DOCTYPE html><title>Loopback hub</title><link rel=\"icon\" href=\"data:,\"><style>iframe{{width:100%;height:48rem;border:1px solid}}</style>         <h1>Loopback hub</h1><iframe src=\"{address}\" title=\"Space\"></iframe>"
    ))
}

/// What a person would see.
fn ask(query: &Fields, isolated: bool) -> Response {
    let query = reqwest::Url::parse_with_params("http://x/", query).unwrap().query().unwrap_or_default().replace('&', "&amp;");
    let opener = if isolated { "same-origin" } else { "unsafe-none" };
    let page = Html(format!(
        "<!DOCTYPE html><title>Loopback hub</title><link rel=\"icon\" href=\"data:,\"><h1>Loopback hub</h1><p>Atelier would like to know who you are.</p>\
         <p><a id=\"agree\" href=\"/oauth/agree?{query}\">Agree</a> <a id=\"refuse\" href=\"/oauth/agree?refuse=1&amp;{query}\">Refuse</a></p>"
    ));
    ([("cross-origin-opener-policy", opener)], page).into_response()
}

async fn agree(State(shared): State<Shared>, Query(query): Query<Fields>) -> Response {
    let mut state = shared.lock();
    if state.oauth.denies || query.contains_key("refuse") {
        return back(&query, &[("error", "access_denied"), ("error_description", "The user said no")]);
    }
    let oauth = &mut state.oauth;
    oauth.given += 1;
    let code = format!("loopback-code-{}", hash(&format!("{}{}", oauth.given, field(&query, "state"))));
    let scope = oauth.granted.unwrap_or(field(&query, "scope")).to_owned();
    oauth.codes.insert(code.clone(), Code { query: query.clone(), person: oauth.person, scope });
    back(&query, &[("code", &code)])
}

fn back(query: &Fields, pairs: &[(&str, &str)]) -> Response {
    let pairs = pairs.iter().copied().chain([("state", field(query, "state"))]);
    let address = reqwest::Url::parse_with_params(field(query, "redirect_uri"), pairs).unwrap();
    Redirect::to(address.as_str()).into_response()
}

async fn token(State(shared): State<Shared>, headers: HeaderMap, Form(form): Form<Fields>) -> Response {
    let refuse =
        |error: &str, words: &str| (StatusCode::BAD_REQUEST, Json(json!({"error": error, "error_description": words}))).into_response();
    let expected = format!("Basic {}", BASE64_STANDARD.encode(format!("{APP_ID}:{APP_SECRET}")));
    if headers.get(header::AUTHORIZATION).is_none_or(|given| given != expected.as_str()) {
        return refuse("invalid_client", "Client authentication failed");
    }
    let mut state = shared.lock();
    // Gone with the first try, whatever comes of it.
    let Some(code) = state.oauth.codes.remove(field(&form, "code")) else {
        return refuse("invalid_grant", "The code is unknown or was used before");
    };
    if field(&code.query, "redirect_uri") != field(&form, "redirect_uri") {
        return refuse("invalid_grant", "redirect_uri is another one");
    }
    if field(&code.query, "code_challenge") != BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(field(&form, "code_verifier"))) {
        return refuse("invalid_grant", "The code verifier does not fit");
    }
    let token = format!("hf_oauth_{}", hash(field(&form, "code")));
    let role = if code.scope.contains("contribute-repos") { Role::Contribute } else { Role::Read };
    state.accounts.insert(token.clone(), Account { name: code.person.username, role });
    state.oauth.people.insert(token.clone(), code.person);
    state.oauth.tokens.push(token.clone());
    let id_token = id_token(&shared.endpoint, &code, state.oauth.lie);
    Json(json!({"access_token": token, "token_type": "bearer", "expires_in": state.oauth.expires_in, "scope": code.scope, "id_token": id_token}))
        .into_response()
}

fn id_token(issuer: &str, code: &Code, lie: Option<(&str, &str)>) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut claims =
        json!({"iss": issuer, "sub": code.person.id, "aud": APP_ID, "exp": now + 600, "iat": now, "nonce": field(&code.query, "nonce")});
    if let Some((name, value)) = lie {
        claims[name] = value.into();
    }
    format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()))
}

async fn userinfo(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let state = shared.lock();
    match answers::token(&headers).and_then(|token| state.oauth.people.get(token)) {
        Some(Person { id, username, name }) => {
            Json(json!({"sub": id, "preferred_username": username, "name": name, "picture": "", "orgs": []})).into_response()
        }
        None => (StatusCode::UNAUTHORIZED, Json(json!({"error": "invalid_token"}))).into_response(),
    }
}

fn hash(text: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(text)).replace(['-', '_'], "x")
}
