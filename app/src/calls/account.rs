//! Who is signed in. Signing in and out itself is done with cookies, at `/sign-in/…` and `/sign-out`.

use crate::api::{Account, ApiError};
use leptos::prelude::*;

#[cfg(feature = "ssr")]
use super::context::{answered, api, go_to};

#[server(endpoint = "get_account")]
pub async fn get_account() -> Result<Account, ApiError> {
    answered(api().account().await)
}

/// One-time, for the frame that this tab was opened from.
#[server(endpoint = "get_sign_in_code")]
pub async fn get_sign_in_code() -> Result<String, ApiError> {
    answered(api().sign_in_code().await)
}

/// For the host: lists hold everybody's work (`on`), or the host's own again.
#[server(endpoint = "look_at_everyone")]
pub async fn look_at_everyone(#[server(default)] on: String) -> Result<(), ApiError> {
    answered(api().look_at_everyone(!on.is_empty()).await)?;
    go_to("/gallery");
    Ok(())
}
