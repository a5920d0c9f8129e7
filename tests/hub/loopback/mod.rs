//! A Hub on this machine for tests: the documented protocol with its scopes, sign-in, and faults on demand. It keeps everything in memory.

mod answers;
mod content;
mod faults;
mod large_files;
pub mod oauth;
mod repositories;

pub use faults::Fault;

use axum::{
    Router,
    middleware::from_fn_with_state,
    routing::{delete, get, post, put},
};
use bytes::Bytes;
use faults::Faults;
use oauth::OAuth;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::task::JoinHandle;

/// Ends with the value.
pub struct Loopback {
    pub endpoint: String,
    shared: Shared,
    task: JoinHandle<()>,
}

#[derive(Clone)]
pub struct Shared {
    endpoint: String,
    /// Another name of the same machine, as storage has another name than the site.
    storage: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub struct State {
    accounts: HashMap<String, Account>,
    pub repos: BTreeMap<String, Repo>,
    /// Large files by SHA-256.
    objects: HashMap<String, Bytes>,
    parts: BTreeMap<(String, usize), Bytes>,
    faults: Faults,
    /// `METHOD path`, in order.
    pub heard: Vec<String>,
    /// Requests with a token at the storage, where none belongs.
    pub leaks: Vec<String>,
    /// Bytes of a part; `None` takes large files whole.
    pub part_size: Option<usize>,
    commits: usize,
    pub oauth: OAuth,
}

#[derive(Clone)]
pub struct Account {
    name: &'static str,
    role: Role,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Role {
    Read,
    Write,
    /// OAuth's `contribute-repos`: repositories that the app made for this person.
    Contribute,
}

#[derive(Clone)]
pub struct Repo {
    pub private: bool,
    /// The token that made it.
    made_by: String,
    pub commits: Vec<Commit>,
}

#[derive(Clone)]
pub struct Commit {
    pub oid: String,
    pub summary: String,
    pub files: BTreeMap<String, Blob>,
}

#[derive(Clone, PartialEq)]
pub struct Blob {
    pub content: Bytes,
    pub large: bool,
}

pub const WRITER: &str = "hf_loopbackWriter0000000000000000000";
pub const READER: &str = "hf_loopbackReader0000000000000000000";
pub const APP: &str = "hf_oauth_loopbackApp00000000000000000";

impl Loopback {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (endpoint, storage) = (format!("http://127.0.0.1:{port}"), format!("http://localhost:{port}"));
        let shared = Shared { endpoint: endpoint.clone(), storage, state: Arc::default() };
        for (token, role) in [(WRITER, Role::Write), (READER, Role::Read), (APP, Role::Contribute)] {
            shared.lock().accounts.insert(token.into(), Account { name: "ada", role });
        }
        let app = router(shared.clone());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { endpoint, shared, task }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// Once, on the next request whose `METHOD path` holds these words.
    pub fn fault(&self, words: &str, fault: Fault) {
        self.state().faults.add(words, fault);
    }

    /// Somebody else's repository, or an older one of one's own.
    pub fn put(&self, repo: &str, files: &[(&str, &str)]) {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), Blob { content: Bytes::from((*text).to_owned()), large: false }));
        let commit = Commit { oid: "a".repeat(40), summary: "by hand".into(), files: files.collect() };
        self.state().repos.insert(repo.into(), Repo { private: false, made_by: WRITER.into(), commits: vec![commit] });
    }

    /// The newest files of a repository; `None` when there is none.
    pub fn files(&self, repo: &str) -> Option<BTreeMap<String, Bytes>> {
        let files = self.state().repos.get(repo)?.commits.last()?.files.clone();
        Some(files.into_iter().map(|(path, blob)| (path, blob.content)).collect())
    }

    /// Commits beyond the one that a repository is born with.
    pub fn commits(&self, repo: &str) -> usize {
        self.state().repos[repo].commits.len() - 1
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn router(shared: Shared) -> Router {
    let model = Router::new()
        .route("/", get(repositories::info))
        .route("/revision/{revision}", get(repositories::info_at))
        .route("/settings", put(repositories::settings))
        .route("/preupload/{revision}", post(large_files::preupload))
        .route("/commit/{revision}", post(content::commit))
        .route("/tree/{revision}", get(content::tree))
        .route("/paths-info/{revision}", post(content::paths_info));
    Router::new()
        .route("/api/whoami-v2", get(repositories::whoami))
        .route("/api/repos/create", post(repositories::create))
        .route("/api/repos/delete", delete(repositories::delete))
        .nest("/api/models/{owner}/{name}", model)
        .route("/{owner}/{name}/info/lfs/objects/batch", post(large_files::batch))
        .route("/{owner}/{name}/resolve/{revision}/{*path}", get(content::resolve))
        .route("/verify", post(large_files::verify))
        .route("/storage/{oid}", put(large_files::put_whole).get(large_files::get_object).post(large_files::complete))
        .route("/storage/{oid}/{part}", put(large_files::put_part))
        .merge(oauth::routes())
        .layer(axum::extract::DefaultBodyLimit::max(64 << 20))
        .layer(from_fn_with_state(shared.clone(), faults::strike))
        .with_state(shared)
}
