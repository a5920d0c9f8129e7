//! The door: listens before there is anything to serve, tells how far the start is, and then lets everybody in.

use super::{backups::Copies, error::refused, headers, html::escaped, rates};
use crate::{
    config::Config,
    jobs::{Jobs, device::Loading, publish::Publishing},
};
use app::api::ApiError;
use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use std::{
    mem,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::RwLock;
use tower::ServiceExt;

/// Cloned freely.
#[derive(Clone)]
pub struct Door(Arc<Inside>);

struct Inside {
    /// Of the model's folder.
    model: String,
    framed_by: Option<String>,
    begun: Instant,
    /// Bytes of a backup: those here, and all.
    restoring: Mutex<Option<(u64, u64)>>,
    studio: OnceLock<Studio>,
    /// Read by every request that changes something; written once, for good, when the studio is put down.
    changes: Arc<RwLock<()>>,
}

/// What lies behind the door once it is open.
pub struct Studio {
    pub router: Router,
    pub jobs: Jobs,
    pub publishing: Publishing,
    pub copies: Option<Copies>,
}

/// How far the start is.
#[derive(Clone, Debug, PartialEq)]
enum Stage {
    Opening,
    Restoring { done: u64, total: u64 },
    Loading,
    Ready,
}

/// Of pages and scripts that ask again.
const AGAIN_S: u16 = 1;

impl Door {
    pub fn new(config: &Config) -> Self {
        let model = config.model.file_name().unwrap_or(config.model.as_os_str()).to_string_lossy().into_owned();
        let framed_by = config.in_space.then(|| config.hub.endpoint.clone());
        Self(Arc::new(Inside {
            model,
            framed_by,
            begun: Instant::now(),
            restoring: Mutex::default(),
            studio: OnceLock::new(),
            changes: Arc::default(),
        }))
    }

    pub fn router(&self) -> Router {
        Router::new().fallback(answer).with_state(self.clone())
    }

    pub fn restoring(&self, done: u64, total: u64) {
        *self.0.restoring.lock().unwrap_or_else(PoisonError::into_inner) = Some((done, total));
    }

    pub fn open(&self, studio: Studio) {
        // Only the start opens it, once.
        let _ = self.0.studio.set(studio);
    }

    pub fn studio(&self) -> Option<&Studio> {
        self.0.studio.get()
    }

    /// Nothing is changed from here on; what is being changed now is waited for.
    pub async fn leave(&self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        let changes = self.0.changes.clone();
        // A task of its own: it stays in the way of changes when patience ends.
        let closed = tokio::spawn(async move { mem::forget(changes.write_owned().await) });
        if tokio::time::timeout(PATIENCE, closed).await.is_err() {
            tracing::warn!("a request is still changing something; its end may be missing from the last copy");
        }
    }

    fn stage(&self) -> Stage {
        if let Some(studio) = self.studio() {
            return if matches!(studio.jobs.device.loading(), Loading::Ready(_)) { Stage::Ready } else { Stage::Loading };
        }
        let restoring = *self.0.restoring.lock().unwrap_or_else(PoisonError::into_inner);
        restoring.map_or(Stage::Opening, |(done, total)| Stage::Restoring { done, total })
    }
}

/// Pages wait for the model, since a visitor would; everything else waits for the store alone.
async fn answer(State(door): State<Door>, request: Request) -> Response {
    let stage = door.stage();
    let change = (!rates::is_read(request.uri().path(), request.method())).then(|| door.0.changes.try_read()).transpose();
    let Ok(_change) = change else {
        let leaving = ApiError::new(503, "Atelier is being started anew, so nothing was changed. Ask again in a moment.");
        return (not_kept(), refused(request.uri().path(), leaving)).into_response();
    };
    if let Some(studio) = door.studio().filter(|_| stage == Stage::Ready || !is_page(&request)) {
        return studio.router.clone().oneshot(request).await.into_response();
    }
    let mut response = of_the_door(&door, &stage, &request);
    headers::protect(response.headers_mut(), door.0.framed_by.as_deref());
    response
}

fn of_the_door(door: &Door, stage: &Stage, request: &Request) -> Response {
    match request.uri().path() {
        _ if is_page(request) => (not_kept(), Html(page(&door.0, stage))).into_response(),
        "/health" => {
            let health = serde_json::json!({"status": "starting", "version": env!("CARGO_PKG_VERSION"), "ready": false});
            (StatusCode::SERVICE_UNAVAILABLE, not_kept(), Json(health)).into_response()
        }
        _ => {
            let error = ApiError::new(503, format!("Atelier is starting: {} Ask again in a moment.", sentence(&door.0, stage)));
            (not_kept(), refused(request.uri().path(), error)).into_response()
        }
    }
}

/// Asked for by a person; a script's `*/*` is none.
fn is_page(request: &Request) -> bool {
    let accepts = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let path = request.uri().path();
    let is_thing = ["/api", "/files/", "/health", "/metrics"].iter().any(|root| path.starts_with(root));
    request.method() == Method::GET && accepts.contains("text/html") && !is_thing
}

fn not_kept() -> HeaderMap {
    let pairs: [(HeaderName, HeaderValue); 2] =
        [(header::CACHE_CONTROL, HeaderValue::from_static("no-store")), (header::RETRY_AFTER, HeaderValue::from(AGAIN_S))];
    pairs.into_iter().collect()
}

fn sentence(inside: &Inside, stage: &Stage) -> String {
    match stage {
        Stage::Opening => "the studio is being opened.".to_owned(),
        Stage::Restoring { done, total } => {
            format!("its pictures and adapters are fetched from their backup, {} of {} MB.", done / 1_000_000, total / 1_000_000)
        }
        Stage::Loading | Stage::Ready => format!("the model {} is being loaded.", inside.model),
    }
}

/// Without scripts or files of ours, which may not be there yet; it asks again by itself, and is then the page that was asked for.
fn page(inside: &Inside, stage: &Stage) -> String {
    let sentence = escaped(&sentence(inside, stage));
    let (first, rest) = sentence.split_at(1);
    let value = match stage {
        Stage::Restoring { done, total } => format!(" value=\"{done}\" max=\"{}\"", total.max(&1)),
        _ => String::new(),
    };
    let seconds = inside.begun.elapsed().as_secs();
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="{AGAIN_S}">
<title>Starting · Atelier</title>
<style>
body {{ display: grid; place-content: center; min-height: 90vh; margin: 0; padding: 1rem; text-align: center; font: 1.1rem Georgia, serif;
  background: light-dark(#f7f1e4, #181410); color: light-dark(#2b241b, #efe6d5); }}
progress {{ width: min(20rem, 80vw); accent-color: #b08d3e; }}
</style>
</head>
<body>
<main>
<h1>Atelier is starting</h1>
<p role="status">{}{rest}</p>
<p><progress aria-label="The start"{value}></progress></p>
<p>{seconds} s so far. This page goes on by itself.</p>
</main>
</body>
</html>
"#,
        first.to_uppercase()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};

    async fn ask(door: &Door, path: &str, accept: &str) -> (StatusCode, HeaderMap, String) {
        let request = Request::get(path).header(header::ACCEPT, accept).body(Body::empty()).unwrap();
        let response = door.router().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, parts.headers, String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().into()).unwrap())
    }

    #[tokio::test]
    async fn before_there_is_a_studio_people_see_a_page_and_scripts_a_sentence() {
        let door = Door::new(&Config { model: "models/flux <1>".into(), ..Config::default() });
        let (status, headers, page) = ask(&door, "/train", "text/html,*/*").await;
        assert!(status.is_success() && page.contains("The studio is being opened.") && page.contains("http-equiv=\"refresh\""), "{page}");
        assert_eq!(
            (&headers["cache-control"], &headers["x-content-type-options"]),
            (&"no-store".parse().unwrap(), &"nosniff".parse().unwrap())
        );
        door.restoring(30_000_000, 90_000_000);
        let (_, _, page) = ask(&door, "/", "text/html").await;
        assert!(page.contains("30 of 90 MB") && page.contains("max=\"90000000\""), "{page}");
        for (path, accept) in [("/api/v1/studio", "*/*"), ("/api/get_studio", "text/html"), ("/files/pictures/a.png", "image/*")] {
            let (status, headers, body) = ask(&door, path, accept).await;
            assert_eq!((status.as_u16(), &headers["retry-after"]), (503, &"1".parse().unwrap()));
            assert!(serde_json::from_str::<ApiError>(&body).unwrap().message.contains("starting"), "{body}");
        }
        assert_eq!(ask(&door, "/health", "*/*").await.0, 503);
        let (_, _, body) = ask(&door, "/v1/models", "*/*").await;
        assert!(body.contains("\"error\":{\"message\":"), "OpenAI's shape: {body}");
        // Once it is being left, nothing is changed any more.
        door.leave().await;
        let change = Request::post("/api/delete_picture").body(Body::empty()).unwrap();
        let (parts, body) = door.router().oneshot(change).await.unwrap().into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        assert!(parts.status == 503 && body.windows(7).any(|word| word == b"changed"), "{body:?}");
        assert_eq!(ask(&door, "/", "text/html").await.0, 200);
        assert!(super::page(&door.0, &Stage::Loading).contains("The model flux &lt;1&gt; is being loaded."));
    }
}
