//! Pictures of a visitor: a new style set, or more of one.

use super::super::{AppState, checks, error::refuse};
use super::receive::Received;
use crate::{jobs::import, store::Owner};
use app::api::{ApiResult, DatasetId, DatasetInfo};
use std::path::{Path, PathBuf};

/// `files` (pictures, captions, or one zip) become a new set, or join `dataset`.
pub async fn add(state: &AppState, owner: &Owner, received: Received) -> ApiResult<DatasetInfo> {
    let store = &state.jobs.store;
    let target = received.text("dataset").map(|id| DatasetId::from(id.to_owned()));
    let present = match &target {
        Some(id) => Some(store.dataset(owner, id).await?),
        None => None,
    };
    let trigger = match (received.text("trigger"), &present) {
        (Some(trigger), _) => checks::trigger(trigger)?,
        (None, Some(present)) => present.trigger.clone(),
        (None, None) => None,
    };
    let name = received.text("name").map(checks::name).transpose()?;
    let (source, given_name) = source(&received)?;
    let items = import::read(source, trigger.clone()).await?;
    let _room = state.jobs.room_for(owner, import::bytes(&items)).await?;
    let id = match target {
        Some(id) => {
            store.extend_dataset(owner, &id, items).await?;
            id
        }
        None => store.create_dataset(owner, name.as_deref().unwrap_or(&given_name), trigger.as_deref(), items).await?,
    };
    Ok(store.dataset(owner, &id).await?)
}

/// The zip, or the folder of loose files; and a name for the set.
fn source(received: &Received) -> ApiResult<(PathBuf, String)> {
    let is_zip = |path: &PathBuf| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zip"));
    match received.files.as_slice() {
        [] => Err(refuse("No files came along; choose pictures (PNG, JPEG or WebP) or a zip of them.")),
        [zip] if is_zip(zip) => Ok((zip.clone(), short_name(zip))),
        files if files.iter().any(is_zip) => Err(refuse("Send either one zip or loose pictures, not both together.")),
        _ => Ok((received.folder(), "My style".to_owned())),
    }
}

fn short_name(zip: &Path) -> String {
    let stem = zip.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    checks::name(&stem).unwrap_or_else(|_| "My style".to_owned())
}
