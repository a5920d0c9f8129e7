//! A style set: pictures with captions, read from a folder or a zip and checked before anything is trained.

mod captions;
mod open;
mod picture;
mod unpack;

use crate::{Error, Result};
use image::RgbImage;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// One picture and its caption. Identity is the content, never the position.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Item {
    /// Relative to the dataset's folder.
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
    /// The phrase that every caption ends in, if one was asked for.
    pub trigger: Option<String>,
    /// What was passed over or put together, a sentence each: duplicates, files that are no pictures.
    pub notes: Vec<String>,
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

impl Limits {
    /// Characters of a caption; the encoders hear 512 tokens at most.
    pub const CAPTION_CHARS: usize = 2000;
    /// Pixels of the shorter side: less holds no style.
    pub const SHORT_SIDE: u32 = 32;
}

impl Dataset {
    /// Opens a folder (imagefolder with metadata.jsonl, or pictures with .txt beside them, or pictures alone with a trigger phrase) or a zip of one.
    /// A zip is unpacked below `scratch`. With a trigger, captions that lack it get it appended after ", "; pictures without caption get the trigger alone.
    pub fn open(path: &Path, trigger: Option<&str>, limits: Limits, scratch: &Path) -> Result<Self> {
        let trigger = trigger.map(str::trim).filter(|trigger| !trigger.is_empty());
        if path.is_dir() {
            return open::folder(path, trigger, limits);
        }
        if !path.is_file() {
            return Err(refuse(format!("{} does not exist; give a folder of pictures or a zip of one", path.display())));
        }
        open::archive(path, trigger, limits, scratch)
    }

    /// Unpacks a zip into a fresh folder, refusing links, absolute or climbing paths, too many or too large entries. Nothing is left behind on error.
    pub fn unpack(zip: &Path, into: &Path, limits: Limits) -> Result<()> {
        unpack::unpack(zip, into, limits)
    }

    /// Checks one picture file's bytes (format, size, truncation, bombs) and describes it: (width, height) after EXIF orientation.
    pub fn inspect(name: &str, bytes: &[u8], limits: Limits) -> Result<(u32, u32)> {
        Ok(picture::decode(name, bytes, limits)?.dimensions())
    }

    /// Decodes a picture: EXIF orientation applied, RGB on white. Refuses a file that is no longer the one that was opened.
    pub fn picture(&self, item: &Item, limits: Limits) -> Result<RgbImage> {
        let bytes = std::fs::read(self.folder.join(&item.file_name))
            .map_err(|error| refuse(format!("{}: {error}; the picture was there when the set was opened", item.file_name)))?;
        if sha256(&bytes) != item.sha256 {
            return Err(refuse(format!("{} has changed since the set was opened; open the set again", item.file_name)));
        }
        picture::decode(&item.file_name, &bytes, limits)
    }

    /// Writes metadata.jsonl for this dataset's captions (atomic).
    pub fn save_captions(&self) -> Result<()> {
        captions::save(&self.folder, &self.items)
    }

    /// SHA-256 over all (picture, caption) pairs, whatever their order or file names.
    pub fn fingerprint(&self) -> String {
        let mut pairs: Vec<_> = self.items.iter().map(|item| format!("{} {}\n", item.sha256, item.caption)).collect();
        pairs.sort();
        sha256(pairs.concat().as_bytes())
    }
}

/// SHA-256 in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn refuse(sentence: impl Into<String>) -> Error {
    Error::Dataset(sentence.into())
}
