//! How a server function finds the system, and where it sends a browser that posted a plain form.

use crate::api::{Api, ApiResult};
use crate::forms::write_pairs;
use leptos::prelude::*;
use leptos::server_fn::http_export::{StatusCode, request::Parts};
use std::sync::Arc;

/// The system, bound to the visitor who asks.
pub fn api() -> Arc<dyn Api> {
    expect_context::<Arc<dyn Api>>()
}

/// Sends the visitor to the page that shows what was done.
pub fn go_to(path: &str) {
    leptos_axum::redirect(path);
}

/// Gives a refusal its own HTTP status when it is the answer to a request; a page that is being rendered says it in words, and a plain
/// form is sent back to where it came from.
pub fn answered<T>(result: ApiResult<T>) -> ApiResult<T> {
    if let Err(error) = &result
        && is_call()
        && !is_plain_form()
    {
        answer_with(error.status);
    }
    result
}

/// Gives the answer that is being made this HTTP status.
pub fn answer_with(status: u16) {
    if let (Some(response), Ok(status)) = (use_context::<leptos_axum::ResponseOptions>(), StatusCode::from_u16(status)) {
        response.set_status(status);
    }
}

/// A plain form that was refused goes back to its page, with what was typed and the reason in the address; a page that is alive
/// stays where it is and shows the error itself.
pub fn or_back_to<T>(result: ApiResult<T>, page: &str, typed: &str) -> ApiResult<T> {
    if let Err(error) = &result
        && is_plain_form()
    {
        let reason = write_pairs(&[("error", &error.message)]);
        let join = if typed.is_empty() { "" } else { "&" };
        leptos_axum::redirect(&format!("{page}?{typed}{join}{reason}"));
    }
    answered(result)
}

fn is_call() -> bool {
    request(|parts| parts.uri.path().starts_with("/api/"))
}

fn is_plain_form() -> bool {
    request(|parts| parts.headers.get("accept").and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains("text/html")))
}

fn request(holds: impl FnOnce(&Parts) -> bool) -> bool {
    use_context::<Parts>().is_some_and(|parts| holds(&parts))
}
