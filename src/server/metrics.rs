//! `GET /metrics`: what the studio does and how it answers, for Prometheus, in OpenMetrics' text.

use super::{
    AppState,
    error::Refusal,
    rest::{self, auth},
};
use crate::jobs::device::Loading;
use app::api::ApiError;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// What is counted as it happens; the rest is looked up when somebody asks.
pub struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    seconds: Family<Asked, Histogram>,
    streams: Gauge,
    ready: Gauge,
    runs: Family<Runs, Gauge>,
    kept: Family<Kept, Gauge>,
    pub backups: Backups,
}

/// Copies of the store.
#[derive(Clone, Default)]
pub struct Backups {
    pub failed: Counter,
    /// Seconds since 1970 of the last one that came to its end.
    last: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    part: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    part: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Runs {
    kind: String,
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kept {
    what: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        // From a static file to a page on a busy machine.
        let seconds = || Histogram::new([0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 60.0]);
        let mut metrics = Self {
            registry: Registry::with_prefix("atelier"),
            requests: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            streams: Gauge::default(),
            ready: Gauge::default(),
            runs: Family::default(),
            kept: Family::default(),
            backups: Backups::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("http_requests", "Answers, by part of the server and status", self.requests.clone());
        registry.register_with_unit("http_request", "Until an answer begins", Unit::Seconds, self.seconds.clone());
        registry.register("event_streams", "Watchers of runs that are connected", self.streams.clone());
        registry.register("ready", "1 when the model is loaded", self.ready.clone());
        registry.register("runs", "Runs by kind and state", self.runs.clone());
        registry.register("kept", "Rows of each kind in the store", self.kept.clone());
        registry.register("backup_failures", "Copies of the store that failed", self.backups.failed.clone());
        registry.register_with_unit(
            "last_backup_timestamp",
            "When the store was last copied, since 1970",
            Unit::Seconds,
            self.backups.last.clone(),
        );
    }

    /// Counts a watcher for as long as what is returned lives.
    pub fn event_stream(&self) -> OpenStream {
        self.streams.inc();
        OpenStream(self.streams.clone())
    }
}

impl Backups {
    pub fn done(&self) {
        self.last.set(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs() as i64));
    }
}

pub struct OpenStream(Gauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// For whoever may use the API.
pub async fn show(State(state): State<AppState>, headers: HeaderMap) -> Result<Response, Refusal> {
    auth::admit(&state, &headers).await?;
    let metrics = &state.metrics;
    metrics.ready.set(matches!(state.jobs.device.loading(), Loading::Ready(_)).into());
    metrics.runs.clear();
    for (kind, state, count) in state.jobs.store.count_runs().await? {
        metrics.runs.get_or_create(&Runs { kind, state }).set(count);
    }
    for (what, count) in state.jobs.store.count_rows().await? {
        metrics.kept.get_or_create(&Kept { what }).set(count);
    }
    let mut text = String::new();
    encode(&mut text, &metrics.registry).map_err(|error| ApiError::new(500, error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response())
}

/// Counts every answer.
pub async fn count(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let (part, begun) = (part(request.uri().path()), Instant::now());
    let response = next.run(request).await;
    metrics.requests.get_or_create(&Answered { part, status: response.status().as_u16() }).inc();
    metrics.seconds.get_or_create(&Asked { part }).observe(begun.elapsed().as_secs_f64());
    response
}

/// A few names, whatever visitors ask for.
fn part(path: &str) -> &'static str {
    match path.split('/').nth(1).unwrap_or_default() {
        _ if rest::is_api(path) => "api",
        "api" => "functions",
        "files" => "files",
        "events" => "events",
        "upload" => "uploads",
        "pkg" | "fonts" | "icons" | "style-sets" => "static",
        "health" | "metrics" => "health",
        _ => "pages",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_fall_into_a_few_parts() {
        for (path, expected) in [
            ("/", "pages"),
            ("/train/abc", "pages"),
            ("/api/v1/runs/x", "api"),
            ("/v1/models", "api"),
            ("/api/get_run", "functions"),
            ("/api/v1", "functions"),
            ("/pkg/atelier.css", "static"),
            ("/../../etc/passwd", "pages"),
        ] {
            assert_eq!(part(path), expected, "{path}");
        }
    }
}
