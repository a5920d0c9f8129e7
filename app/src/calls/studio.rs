//! What this instance is.

use crate::api::{ApiError, Studio};
use leptos::prelude::*;

#[cfg(feature = "ssr")]
use super::context::{answered, api};

#[server(endpoint = "get_studio")]
pub async fn get_studio() -> Result<Studio, ApiError> {
    answered(api().studio().await)
}
