//! A style set: pictures with captions, read from a folder or a zip and checked before anything is trained.

use crate::Result;
use image::RgbImage;
use std::path::{Path, PathBuf};

/// One picture and its caption. Identity is the content, never the position.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Item {
    pub file_name: String,
    /// SHA-256 of the file's bytes, hex.
    pub sha256: String,
    pub caption: String,
    /// After EXIF orientation.
    pub width: u32,
    pub height: u32,
}

/// A checked dataset on disk.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub folder: PathBuf,
    pub items: Vec<Item>,
}

/// Limits that an upload or a folder must keep.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub pictures: usize,
    pub bytes_per_picture: u64,
    pub bytes: u64,
    pub pixels: u64,
    pub archive_entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { pictures: 1000, bytes_per_picture: 50 << 20, bytes: 2 << 30, pixels: 100_000_000, archive_entries: 5000 }
    }
}

impl Dataset {
    /// Opens a folder (imagefolder with metadata.jsonl, or pictures with .txt beside them, or pictures alone with a trigger phrase) or a zip of one.
    /// A zip is unpacked below `scratch`. With a trigger, captions that lack it get it appended after ", "; pictures without caption get the trigger alone.
    pub fn open(path: &Path, trigger: Option<&str>, limits: Limits, scratch: &Path) -> Result<Self> {
        todo!()
    }

    /// Unpacks a zip into a fresh folder, refusing links, absolute or climbing paths, too many or too large entries. Nothing is left behind on error.
    pub fn unpack(zip: &Path, into: &Path, limits: Limits) -> Result<()> {
        todo!()
    }

    /// Checks one picture file's bytes (format, size, truncation, bombs) and describes it: (width, height) after EXIF orientation.
    pub fn inspect(name: &str, bytes: &[u8], limits: Limits) -> Result<(u32, u32)> {
        todo!()
    }

    /// Decodes a picture: EXIF orientation applied, RGB on white.
    pub fn picture(&self, item: &Item, limits: Limits) -> Result<RgbImage> {
        todo!()
    }

    /// Writes metadata.jsonl for this dataset's captions (atomic).
    pub fn save_captions(&self) -> Result<()> {
        todo!()
    }
}
