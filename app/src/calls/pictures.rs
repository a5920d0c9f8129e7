//! Pictures: drawn, listed, deleted.

use crate::api::{ApiError, Picture, PictureFilter, PictureId, RunId};
use crate::forms::GenerateForm;
use leptos::prelude::*;

#[cfg(feature = "ssr")]
use super::context::{answered, api, go_to, or_back_to};

/// Lands on `/?run=ID`, with the form in the address so that a reload keeps it.
#[server(endpoint = "start_generation")]
pub async fn start_generation(form: GenerateForm) -> Result<RunId, ApiError> {
    let typed = form.query();
    let started = async {
        let api = api();
        let request = form.request(&api.studio().await?)?;
        api.generate(request).await
    };
    let run = or_back_to(started.await, "/", &typed)?;
    go_to(&format!("/?run={run}&{typed}"));
    Ok(run)
}

#[server(endpoint = "list_pictures")]
pub async fn list_pictures(filter: PictureFilter) -> Result<Vec<Picture>, ApiError> {
    answered(api().pictures(PictureFilter { limit: filter.limit.clamp(1, 100), ..filter }).await)
}

#[server(endpoint = "get_picture")]
pub async fn get_picture(id: PictureId) -> Result<Picture, ApiError> {
    answered(api().picture(id).await)
}

#[server(endpoint = "delete_picture")]
pub async fn delete_picture(id: PictureId) -> Result<(), ApiError> {
    answered(api().delete_picture(id).await)?;
    go_to("/gallery");
    Ok(())
}
