//! Pictures of a visitor, or of a sample set, on their way into a style set: checked by the trainer's own reader, named by content.

use super::super::{
    AppState, checks,
    error::{of_train, refuse},
};
use super::receive::Received;
use crate::store::{self, Owner, datasets::NewItem, thumbnail};
use app::api::{ApiError, ApiResult, DatasetId, DatasetInfo, DatasetItem, limits};
use std::path::{Path, PathBuf};
use train::{
    Dataset,
    dataset::{Item, Limits},
};

const LIMITS: Limits = Limits {
    pictures: limits::MAX_DATASET_PICTURES,
    bytes_per_picture: limits::MAX_PICTURE_BYTES,
    bytes: limits::MAX_UPLOAD_BYTES,
    pixels: 100_000_000,
    archive_entries: 5000,
};

/// Stands for a caption that is yet to be written, where the reader wants one: a letter of nobody's alphabet.
const UNWRITTEN: &str = "\u{f8fe}";

/// `files` (pictures, captions, or one zip) become a new set, or join `dataset`.
pub async fn dataset(state: &AppState, received: Received) -> ApiResult<DatasetInfo> {
    let (store, owner) = (&state.jobs.store, Owner::local());
    let target = received.text("dataset").map(|id| DatasetId::from(id.to_owned()));
    let present = match &target {
        Some(id) => Some(store.dataset(&owner, id).await?),
        None => None,
    };
    let trigger = match (received.text("trigger"), &present) {
        (Some(trigger), _) => checks::trigger(trigger)?,
        (None, Some(present)) => present.trigger.clone(),
        (None, None) => None,
    };
    let name = received.text("name").map(checks::name).transpose()?;
    let (source, given_name) = source(&received)?;
    let items = folder(source, trigger.clone()).await?;
    let id = match target {
        Some(id) => {
            store.extend_dataset(&owner, &id, items).await?;
            id
        }
        None => store.create_dataset(&owner, name.as_deref().unwrap_or(&given_name), trigger.as_deref(), items).await?,
    };
    Ok(store.dataset(&owner, &id).await?)
}

/// The zip, or the folder of loose files; and a name for the set.
fn source(received: &Received) -> ApiResult<(PathBuf, String)> {
    let is_zip = |path: &PathBuf| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zip"));
    match received.files.as_slice() {
        [] => Err(refuse("No files came along; choose pictures (PNG, JPEG or WebP) or a zip of them.")),
        [zip] if is_zip(zip) => Ok((zip.clone(), short_name(zip))),
        files if files.iter().any(is_zip) => Err(refuse("Send either one zip or loose pictures, not both together.")),
        _ => Ok((received.folder().to_owned(), "My style".to_owned())),
    }
}

fn short_name(zip: &Path) -> String {
    let stem = zip.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    checks::name(&stem).unwrap_or_else(|_| "My style".to_owned())
}

/// Reads a folder or zip; captions that are missing are empty. Decoding is no work for the threads that answer requests.
pub async fn folder(source: PathBuf, trigger: Option<String>) -> ApiResult<Vec<NewItem>> {
    let read = tokio::task::spawn_blocking(move || read(&source, trigger.as_deref()));
    read.await.map_err(|_| ApiError::new(500, "The pictures could not be read; the log says why."))?
}

fn read(source: &Path, trigger: Option<&str>) -> ApiResult<Vec<NewItem>> {
    // A zip is unpacked beside itself, in the upload's own folder.
    let scratch = source.parent().unwrap_or(Path::new("."));
    let dataset = Dataset::open(source, Some(trigger.unwrap_or(UNWRITTEN)), LIMITS, scratch).map_err(of_train)?;
    dataset.items.iter().map(|item| new_item(&dataset, item)).collect()
}

fn new_item(dataset: &Dataset, item: &Item) -> ApiResult<NewItem> {
    let file = dataset.folder.join(&item.file_name);
    let thumb = thumbnail::encode(&dataset.picture(item, LIMITS).map_err(of_train)?)?;
    let file_name = item.file_name.rsplit('/').next().unwrap_or_default().to_owned();
    let caption = written(&item.caption).to_owned();
    let Item { sha256, width, height, .. } = item.clone();
    Ok(NewItem { item: DatasetItem { id: sha256, file_name, caption, width, height }, extension: extension(&file)?, file, thumb })
}

/// The caption without the sign for a missing one.
fn written(caption: &str) -> &str {
    caption.strip_suffix(UNWRITTEN).map_or(caption, |rest| rest.trim_end_matches([',', ' ']))
}

/// By content, whatever the file was called.
fn extension(file: &Path) -> ApiResult<&'static str> {
    let reader = image::ImageReader::open(file).and_then(|reader| reader.with_guessed_format()).map_err(store::Error::from)?;
    Ok(match reader.format() {
        Some(image::ImageFormat::Png) => "png",
        Some(image::ImageFormat::WebP) => "webp",
        _ => "jpg",
    })
}

/// The caption with the phrase in it; as it is when it has it already, or when there is none.
pub fn with_trigger(caption: &str, trigger: &str) -> String {
    let caption = caption.trim();
    if trigger.is_empty() || caption.to_lowercase().contains(&trigger.to_lowercase()) {
        return caption.to_owned();
    }
    match caption.trim_end_matches([',', ' ', '.']) {
        "" => trigger.to_owned(),
        words => format!("{words}, {trigger}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trigger_is_added_once() {
        assert_eq!(with_trigger("a lake,", "art nouveau panel"), "a lake, art nouveau panel");
        assert_eq!(with_trigger("a lake, Art Nouveau panel", "art nouveau panel"), "a lake, Art Nouveau panel");
        assert_eq!(with_trigger(" ", "art nouveau panel"), "art nouveau panel");
        assert_eq!(with_trigger("a lake", ""), "a lake");
    }

    #[test]
    fn a_caption_that_is_yet_to_be_written_is_empty() {
        assert_eq!(written(UNWRITTEN), "");
        assert_eq!(written(&format!("a lake, {UNWRITTEN}")), "a lake");
        assert_eq!(written("a lake"), "a lake");
    }
}
