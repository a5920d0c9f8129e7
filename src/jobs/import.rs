//! Pictures on their way into a style set: checked and decoded by the trainer's own reader, named by content.

use super::error::{Result, blocking};
use crate::store::{Error, datasets::NewItem, thumbnail};
use app::api::{DatasetItem, limits};
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

/// Reads a folder, or a zip (unpacked beside itself). Captions that lack the trigger get it; without one, those that are missing are empty.
pub async fn read(source: PathBuf, trigger: Option<String>) -> Result<Vec<NewItem>> {
    blocking(move || {
        let scratch = source.parent().unwrap_or(Path::new("."));
        let dataset = Dataset::open(&source, Some(trigger.as_deref().unwrap_or(UNWRITTEN)), LIMITS, scratch)?;
        dataset.items.iter().map(|item| new_item(&dataset, item)).collect()
    })
    .await
}

fn new_item(dataset: &Dataset, item: &Item) -> Result<NewItem> {
    let file = dataset.folder.join(&item.file_name);
    let thumb = thumbnail::encode(&dataset.picture(item, LIMITS)?)?;
    let file_name = item.file_name.rsplit('/').next().unwrap_or_default().to_owned();
    let caption = written(&item.caption).to_owned();
    let Item { sha256, width, height, .. } = item.clone();
    let bytes = std::fs::metadata(&file).map_err(Error::from)?.len() + thumb.len() as u64;
    Ok(NewItem { item: DatasetItem { id: sha256, file_name, caption, width, height }, extension: extension(&file)?, file, thumb, bytes })
}

/// What they take once they are kept.
pub fn bytes(items: &[NewItem]) -> u64 {
    items.iter().map(|item| item.bytes).sum()
}

/// The caption without the sign for a missing one.
fn written(caption: &str) -> &str {
    caption.strip_suffix(UNWRITTEN).map_or(caption, |rest| rest.trim_end_matches([',', ' ']))
}

/// By content, whatever the file was called.
fn extension(file: &Path) -> Result<&'static str> {
    let reader = image::ImageReader::open(file).and_then(|reader| reader.with_guessed_format()).map_err(Error::from)?;
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
