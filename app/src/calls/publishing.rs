//! Publishing: reviewed, started, followed, taken back. A token is passed on and never sent back.

use crate::api::{AdapterId, ApiError, PublishReview, PublishState};
use crate::forms::PublishForm;
use leptos::prelude::*;

#[cfg(feature = "ssr")]
use super::context::{answered, api, go_to, or_back_to};
#[cfg(feature = "ssr")]
use crate::forms::{publish_page, write_query};

#[server(endpoint = "get_publish_review")]
pub async fn get_publish_review(adapter: AdapterId, #[server(default)] form: PublishForm) -> Result<PublishReview, ApiError> {
    answered(api().review_publication(adapter, form.request()).await)
}

/// Lands on the review page with the form in its address, so that the card is shown as it would be now.
#[server(endpoint = "show_card")]
pub async fn show_card(adapter: AdapterId, #[server(default)] form: PublishForm) -> Result<(), ApiError> {
    go_to(&form.href(&adapter));
    Ok(())
}

/// Lands on the review page, which shows how far it is.
#[server(endpoint = "start_publishing")]
pub async fn start_publishing(
    adapter: AdapterId,
    #[server(default)] form: PublishForm,
    #[server(default)] token: String,
) -> Result<(), ApiError> {
    let (page, typed) = (publish_page(&adapter), write_query(&form));
    let started = match form.request() {
        Some(request) => api().publish(adapter, request, Some(token)).await,
        None => Err(ApiError::new(422, "Look at the card first, then publish it.")),
    };
    or_back_to(started, &page, &typed)?;
    go_to(&format!("{page}?{typed}"));
    Ok(())
}

/// The newest attempt since the server started.
#[server(endpoint = "get_publish_state")]
pub async fn get_publish_state(adapter: AdapterId) -> Result<Option<PublishState>, ApiError> {
    answered(api().publish_state(adapter).await)
}

/// Deletes the repository on the Hub.
#[server(endpoint = "unpublish_adapter")]
pub async fn unpublish_adapter(adapter: AdapterId, repo: String, #[server(default)] token: String) -> Result<(), ApiError> {
    let page = publish_page(&adapter);
    or_back_to(api().unpublish(adapter, repo, Some(token)).await, &page, "")?;
    go_to(&page);
    Ok(())
}
