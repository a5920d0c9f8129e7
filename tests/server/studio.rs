//! A studio of one's own for each test: fresh data folder, flux-mini, the router in process.

use app::api::*;
use atelier::{
    config::Config,
    jobs::Jobs,
    server::{AppState, router::router, visitor::Visitor},
    store::Store,
};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode, header},
};
use futures::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tower::ServiceExt;

pub struct Studio {
    pub state: AppState,
    router: Router,
    _folder: TempDir,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Studio {
    pub async fn open() -> Self {
        Self::open_with(Config::default()).await
    }

    /// With a data folder of its own, whatever the configuration says.
    pub async fn open_with(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { data_dir: folder.path().join("data"), ..config };
        let store = Store::open(&config.data_dir).await.unwrap();
        let jobs = Jobs::start(store, &config).await.unwrap();
        let state = AppState::new(jobs, &config, config.address()).unwrap();
        Self { router: router(state.clone()), state, _folder: folder }
    }

    pub fn api(&self) -> Arc<dyn Api> {
        self.state.api(Visitor::Local)
    }

    pub fn router(&self) -> Router {
        self.router.clone()
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer { status: parts.status, headers: parts.headers, body: to_bytes(body, usize::MAX).await.unwrap().into() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).header(header::HOST, "localhost:7860").body(Body::empty()).unwrap()).await
    }

    /// A form as the pages' scripts send it.
    pub async fn call(&self, function: &str, form: &str) -> Answer {
        let request = Request::post(format!("/api/{function}"))
            .header(header::HOST, "localhost:7860")
            .header(header::ORIGIN, "http://localhost:7860")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json");
        self.send(request.body(Body::from(form.to_owned())).unwrap()).await
    }

    /// What `/events/{run}` says until it closes.
    pub async fn events(&self, run: &RunId) -> impl Stream<Item = Event> + Unpin + use<> {
        self.events_at(&format!("/events/{run}")).await
    }

    /// The same at any address.
    pub async fn events_at(&self, path: &str) -> impl Stream<Item = Event> + Unpin + use<> {
        let request = Request::get(path).header(header::HOST, "localhost:7860").body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let chunks = response.into_body().into_data_stream();
        let lines = chunks.map(|chunk| String::from_utf8(chunk.unwrap().to_vec()).unwrap());
        lines.flat_map(|text| futures::stream::iter(data_lines(&text)))
    }

    pub async fn until_ended(&self, run: &RunId) -> Run {
        self.until(run, |run| !run.state.is_active()).await
    }

    pub async fn until(&self, id: &RunId, is_so: impl Fn(&Run) -> bool) -> Run {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let run = self.api().run(id.clone()).await.unwrap();
            if is_so(&run) {
                return run;
            }
            assert!(Instant::now() < deadline, "two minutes have passed: {run:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A few pictures with captions.
    pub async fn style_set(&self) -> DatasetInfo {
        let id = self.api().use_sample_set("mucha".into()).await.unwrap();
        let set = self.api().dataset(id.clone()).await.unwrap();
        for item in &set.items[3..] {
            self.api().remove_item(id.clone(), item.id.clone()).await.unwrap();
        }
        self.api().dataset(id).await.unwrap()
    }
}

fn data_lines(text: &str) -> Vec<Event> {
    text.lines().filter_map(|line| line.strip_prefix("data: ")).map(|json| serde_json::from_str(json).unwrap()).collect()
}

impl Answer {
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.is_success(), "{}: {}", self.status, String::from_utf8_lossy(&self.body));
        self
    }

    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Refused with this status, in a sentence that says `words`.
    #[track_caller]
    pub fn refused(&self, status: u16, words: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        let error: ApiError = self.json();
        assert_eq!(error.status, status);
        assert_sentence(&error.message, words);
    }
}

#[track_caller]
pub fn assert_sentence(text: &str, words: &str) {
    assert!(text.to_lowercase().contains(&words.to_lowercase()), "{words:?} is not said: {text}");
    // One that begins with a file's name keeps the name as it is.
    let begins = text.split(' ').next().is_some_and(|word| word.contains('.') || !word.starts_with(char::is_lowercase));
    assert!(text.len() < 600 && text.ends_with(['.', ')']) && begins, "no sentence: {text}");
}

/// Small and quick: what is tested is the way, not the picture.
pub fn small_picture() -> GenerateRequest {
    GenerateRequest {
        prompt: "a lake at dusk".into(),
        width: 64,
        height: 64,
        steps: 3,
        guidance: 3.5,
        seed: Some(7),
        count: 1,
        adapters: Vec::new(),
    }
}

pub fn small_training(set: &DatasetInfo) -> TrainRequest {
    let settings = RecipeSettings {
        steps: Some(4),
        rank: Some(2),
        alpha: Some(2.0),
        resolution: Some("64x64".into()),
        checkpoint_every: Some(2),
        sample_prompts: Some(vec!["a woman, art nouveau panel".into()]),
        ..RecipeSettings::default()
    };
    TrainRequest { dataset: set.id.clone(), name: "Small Mucha".into(), recipe: "quick".into(), settings }
}
