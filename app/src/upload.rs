//! Files on their way to the server, with progress that `fetch` cannot tell.

use crate::api::ApiError;
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{FormData, ProgressEvent, XmlHttpRequest};

/// Posts a multipart form. `on_progress` hears the share sent, 0 to 1; `on_end` the answer's text, or what to tell the visitor.
pub fn upload(
    url: &str,
    form: &FormData,
    on_progress: impl Fn(f64) + 'static,
    on_end: impl FnOnce(Result<String, ApiError>) + 'static,
) -> Result<(), JsValue> {
    let request = XmlHttpRequest::new()?;
    request.open("POST", url)?;
    request.set_request_header("Accept", "application/json")?;
    let progress = Closure::<dyn Fn(ProgressEvent)>::new(move |event: ProgressEvent| {
        if event.length_computable() {
            on_progress(event.loaded() / event.total());
        }
    });
    request.upload()?.set_onprogress(Some(progress.as_ref().unchecked_ref()));
    let answered = request.clone();
    // `loadend` follows success, failure and abort alike, once.
    let end = Closure::once_into_js(move || {
        on_end(answer(&answered));
        drop(progress);
    });
    request.set_onloadend(Some(end.unchecked_ref()));
    request.send_with_opt_form_data(Some(form))
}

fn answer(request: &XmlHttpRequest) -> Result<String, ApiError> {
    let status = request.status().unwrap_or(0);
    let text = request.response_text().ok().flatten().unwrap_or_default();
    match status {
        200..300 => Ok(text),
        0 => Err(ApiError::new(0, "The connection broke during the upload. Nothing was changed: choose the files again.")),
        413 if text.is_empty() => Err(ApiError::new(413, "That is too large for this server: send fewer or smaller files.")),
        _ => Err(serde_json::from_str(&text).unwrap_or_else(|_| {
            ApiError::new(status, format!("The upload was refused (status {status}): try again, or with other files."))
        })),
    }
}
