//! What goes wrong on demand: a status, a connection that is cut before or after the work, other bytes.

use super::{Shared, answers};
use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::stream;

#[derive(Clone, Debug)]
pub enum Fault {
    Status(u16),
    /// 429 with `Retry-After`.
    TooMany(u64),
    /// The connection breaks, and nothing was done.
    Cut,
    /// The connection breaks, but it was done.
    CutAfter,
    /// One byte is another.
    WrongByte,
}

#[derive(Default)]
pub struct Faults(Vec<(String, Fault)>);

impl Faults {
    pub fn add(&mut self, words: &str, fault: Fault) {
        self.0.push((words.into(), fault));
    }

    fn take(&mut self, request: &str) -> Option<Fault> {
        let index = self.0.iter().position(|(words, _)| request.contains(words.as_str()))?;
        Some(self.0.remove(index).1)
    }
}

pub async fn strike(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let line = format!("{} {}", request.method(), request.uri());
    let fault = {
        let mut state = shared.lock();
        if request.uri().path().starts_with("/storage/") && answers::token(request.headers()).is_some() {
            state.leaks.push(line.clone());
        }
        state.heard.push(line.clone());
        state.faults.take(&line)
    };
    match fault {
        None => next.run(request).await,
        Some(Fault::Status(status)) => {
            let words = format!("on demand, for {}", answers::token(request.headers()).unwrap_or_default());
            answers::Refusal(StatusCode::from_u16(status).unwrap(), "", words).into_response()
        }
        Some(Fault::TooMany(seconds)) => {
            let mut response = answers::Refusal(StatusCode::TOO_MANY_REQUESTS, "", "slow down".into()).into_response();
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            response
        }
        Some(Fault::Cut) => cut(),
        Some(Fault::CutAfter) => {
            next.run(request).await;
            cut()
        }
        Some(Fault::WrongByte) => spoil(next.run(request).await).await,
    }
}

/// A body that ends before it should.
fn cut() -> Response {
    let broken = stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("cut on demand"))]);
    ([(header::CONTENT_LENGTH, "1000")], Body::from_stream(broken)).into_response()
}

async fn spoil(response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let mut bytes = to_bytes(body, usize::MAX).await.unwrap().to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    Response::from_parts(parts, Body::from(bytes))
}
