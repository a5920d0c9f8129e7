//! How a server function finds the system, and where it sends a browser that posted a plain form.

use crate::api::{Api, ApiResult};
use leptos::prelude::*;
use std::sync::Arc;

/// The system, bound to the visitor who asks.
pub fn api() -> Arc<dyn Api> {
    expect_context::<Arc<dyn Api>>()
}

/// Sends the visitor to the page that shows what was done.
pub fn go_to(path: &str) {
    leptos_axum::redirect(path);
}

/// A plain form that was refused goes back to its page, with what was typed and the reason in the address; a page that is alive
/// stays where it is and shows the error itself.
pub fn or_back_to<T>(result: ApiResult<T>, page: &str, typed: &str) -> ApiResult<T> {
    if let Err(error) = &result
        && is_plain_form()
    {
        let reason = serde_qs::to_string(&[("error", &error.message)]).unwrap_or_default();
        let join = if typed.is_empty() { "" } else { "&" };
        leptos_axum::redirect(&format!("{page}?{typed}{join}{reason}"));
    }
    result
}

fn is_plain_form() -> bool {
    let accept = |parts: leptos::server_fn::http_export::request::Parts| {
        let value = parts.headers.get("accept")?.to_str().ok()?;
        Some(value.contains("text/html"))
    };
    use_context().and_then(accept).unwrap_or(false)
}
