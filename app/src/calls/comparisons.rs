//! Comparisons: drawn, seen, voted on.

use crate::api::{AdapterId, ApiError, Comparison, ComparisonId, Tally};
use crate::forms::CompareForm;
use leptos::prelude::*;

#[cfg(feature = "ssr")]
use super::context::{answered, api, go_to, or_back_to};

/// Lands on `/compare?comparison=ID`.
#[server(endpoint = "start_comparison")]
pub async fn start_comparison(form: CompareForm) -> Result<ComparisonId, ApiError> {
    let typed = form.query();
    let started = async {
        let api = api();
        let request = form.request(&api.studio().await?)?;
        api.compare(request).await
    };
    let id = or_back_to(started.await, "/compare", &typed)?;
    go_to(&format!("/compare?comparison={id}"));
    Ok(id)
}

#[server(endpoint = "get_comparison")]
pub async fn get_comparison(id: ComparisonId) -> Result<Comparison, ApiError> {
    answered(api().comparison(id).await)
}

/// Newest first.
#[server(endpoint = "list_comparisons")]
pub async fn list_comparisons() -> Result<Vec<Comparison>, ApiError> {
    answered(api().comparisons(12).await)
}

/// A vote in blind round `round` (counted from 1) for the `first` picture, the `second`, or `neither`. Which of them is the adapter's
/// is known here only. Lands on the same round, told.
#[server(endpoint = "cast_vote")]
pub async fn cast_vote(comparison: ComparisonId, round: usize, choice: String) -> Result<Tally, ApiError> {
    let api = api();
    let drawn = answered(api.comparison(comparison.clone()).await)?;
    let vote = answered(crate::blind::vote(&drawn, round, &choice))?;
    let tally = answered(api.vote(vote).await)?;
    go_to(&format!("/compare?comparison={comparison}&view=blind&round={round}&chose={choice}"));
    Ok(tally)
}

#[server(endpoint = "get_tally")]
pub async fn get_tally(adapter: AdapterId) -> Result<Tally, ApiError> {
    answered(api().tally(adapter).await)
}
