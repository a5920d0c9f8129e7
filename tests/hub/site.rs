//! A studio that people sign in to, served on a port of its own, and browsers that come to it.

use super::loopback::{
    Loopback,
    oauth::{APP_ID, APP_SECRET, Person},
};
use app::api::ApiError;
use atelier::{
    config::{Config, Hosts, HubSettings, SignInSettings, UserLimits},
    jobs::Jobs,
    server::{AppState, router::router},
    store::Store,
};
use reqwest::{
    Client, Method, RequestBuilder, StatusCode,
    header::{HeaderMap, LOCATION, SET_COOKIE},
    multipart,
    redirect::Policy,
};
use serde::de::DeserializeOwned;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};

pub struct Site {
    /// `http://127.0.0.1:PORT`, where it listens.
    pub address: String,
    /// As browsers know it.
    pub public: String,
    pub state: AppState,
    config: Config,
    task: JoinHandle<()>,
    _folder: Arc<TempDir>,
}

impl Site {
    pub async fn open(hub: &Loopback) -> Self {
        Self::open_with(hub, |_| {}).await
    }

    pub async fn open_with(hub: &Loopback, change: impl FnOnce(&mut Config)) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let mut config = Config {
            data_dir: folder.path().join("data"),
            sign_in: Some(settings(&hub.endpoint)),
            hub: HubSettings { endpoint: hub.endpoint.clone(), token: None },
            ..Config::default()
        };
        change(&mut config);
        let store = Store::open(&config.data_dir).await.unwrap();
        let jobs = Jobs::start(store, &config).await.unwrap();
        Self::serve(hub, config, jobs, folder).await
    }

    /// Another server on the same store, as after a restart: nothing of this one's memory is left.
    pub async fn restarted(&self, hub: &Loopback) -> Self {
        Self::serve(hub, self.config.clone(), self.state.jobs.clone(), self._folder.clone()).await
    }

    async fn serve(hub: &Loopback, config: Config, jobs: Jobs, folder: Arc<TempDir>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = AppState::new(jobs, &config, address).unwrap();
        let public = state.site.public.to_string();
        hub.oauth(|oauth| oauth.redirects.push(format!("{public}/sign-in/callback")));
        let app = router(state.clone()).into_make_service_with_connect_info::<SocketAddr>();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address: format!("http://{address}"), public, state, config, task, _folder: folder }
    }

    pub fn browser(&self) -> Browser {
        Browser::new(&self.address, &self.public)
    }

    /// A browser in which this person has signed in.
    pub async fn signed_in(&self, hub: &Loopback, person: Person) -> Browser {
        hub.oauth(|oauth| oauth.person = person);
        let browser = self.browser();
        let landed = browser.sign_in("/").await;
        assert_eq!((landed.status, landed.location()), (StatusCode::SEE_OTHER, "/"), "{}", landed.text);
        browser
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn settings(provider: &str) -> SignInSettings {
    SignInSettings {
        provider: provider.into(),
        client_id: APP_ID.into(),
        client_secret: Some(APP_SECRET.into()),
        scopes: ["openid", "profile", "contribute-repos"].map(str::to_owned).to_vec(),
        cookie_secret: None,
        hosts: Hosts::default(),
    }
}

pub fn limits(runs: u32) -> UserLimits {
    UserLimits { runs, ..UserLimits::default() }
}

/// Keeps cookies by name, follows nothing by itself, and says where it comes from as browsers do.
pub struct Browser {
    client: Client,
    address: String,
    public: String,
    pub cookies: Mutex<BTreeMap<String, String>>,
}

pub struct Page {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Browser {
    pub fn new(address: &str, public: &str) -> Self {
        let client = Client::builder().redirect(Policy::none()).build().unwrap();
        Self { client, address: address.into(), public: public.into(), cookies: Mutex::default() }
    }

    pub async fn get(&self, path: &str) -> Page {
        self.send(self.request(Method::GET, path)).await
    }

    /// A form as a page with scripts sends it.
    pub async fn call(&self, function: &str, form: &str) -> Page {
        self.post(&format!("/api/{function}"), form).await
    }

    pub async fn post(&self, path: &str, form: &str) -> Page {
        self.send(self.form(path, form).header("origin", &self.public).header("sec-fetch-site", "same-origin")).await
    }

    /// The same without a word about where it comes from.
    pub fn form(&self, path: &str, form: &str) -> RequestBuilder {
        let request = self.request(Method::POST, path).header("accept", "application/json");
        request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned())
    }

    pub async fn upload(&self, path: &str, form: multipart::Form) -> Page {
        let request = self.request(Method::POST, path).header("accept", "application/json").header("origin", &self.public);
        self.send(request.multipart(form)).await
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let cookies: Vec<String> = self.jar().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let host = self.public.split("://").nth(1).unwrap();
        let request = self.client.request(method, format!("{}{path}", self.address)).header("host", host);
        if cookies.is_empty() { request } else { request.header("cookie", cookies.join("; ")) }
    }

    pub async fn send(&self, request: RequestBuilder) -> Page {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        for set in headers.get_all(SET_COOKIE) {
            self.keep(set.to_str().unwrap());
        }
        Page { status, headers, text: response.text().await.unwrap() }
    }

    fn keep(&self, set: &str) {
        let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
        if set.contains("Max-Age=0") {
            self.jar().remove(name);
        } else {
            self.jar().insert(name.into(), value.into());
        }
    }

    pub fn jar(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.cookies.lock().unwrap()
    }

    /// Off to the provider, which answers at once; the address that it sends the browser back to, as a path.
    pub async fn authorized(&self, start: &str) -> String {
        let sent = self.get(start).await;
        let provider = sent.location().to_owned();
        let back = self.client.get(&provider).send().await.unwrap();
        let status = back.status();
        let location = back.headers().get(LOCATION).map(|location| location.to_str().unwrap().to_owned());
        let location = location.unwrap_or_else(|| panic!("the provider answers {status} to {provider}"));
        location.strip_prefix(&self.public).expect("back to the site").to_owned()
    }

    /// All of it; the answer of the callback.
    pub async fn sign_in(&self, then: &str) -> Page {
        let back = self.authorized(&format!("/sign-in/start?then={then}")).await;
        self.get(&back).await
    }
}

impl Page {
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.is_success(), "{}: {}", self.status, self.text);
        self
    }

    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn location(&self) -> &str {
        self.headers.get(LOCATION).map(|location| location.to_str().unwrap()).unwrap_or_default()
    }

    /// The sentence that a redirect carries.
    pub fn error(&self) -> String {
        let address = reqwest::Url::parse("http://x").unwrap().join(self.location()).unwrap();
        address.query_pairs().find(|(name, _)| name == "error").map(|(_, value)| value.into_owned()).unwrap_or_default()
    }

    #[track_caller]
    pub fn refused(&self, status: u16, words: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        let error: ApiError = self.json();
        super::studio::assert_sentence(&error.message, words);
    }
}
