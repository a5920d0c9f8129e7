//! Folder or zip → [`Dataset`]: find the pictures, check each, put duplicates together, give each its caption.

use super::captions::{self, Captions};
use super::{Dataset, Item, Limits, picture, refuse, sha256, unpack};
use crate::Result;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Opens a zip, unpacked once below `scratch` under the hash of its bytes.
pub fn archive(zip: &Path, trigger: Option<&str>, limits: Limits, scratch: &Path) -> Result<Dataset> {
    let into = scratch.join(format!("pictures-{}", &file_hash(zip)?[..16]));
    if into.is_dir() {
        return folder(&into, trigger, limits);
    }
    unpack::unpack(zip, &into, limits)?;
    folder(&into, trigger, limits).inspect_err(|_| {
        // Refused: nothing of it stays. A leftover would only be opened and refused again.
        fs::remove_dir_all(&into).ok();
    })
}

pub fn folder(path: &Path, trigger: Option<&str>, limits: Limits) -> Result<Dataset> {
    let root = descend(path)?;
    let found = Found::list(&root, limits)?;
    if found.pictures.is_empty() {
        return Err(refuse(format!("{} holds no pictures; add one or more PNG, JPEG or WebP files", name_of(path))));
    }
    let captions = Captions::read(&root, &found.pictures, &found.texts)?;
    let checked: Vec<Checked> = found.pictures.par_iter().map(|file| Checked::read(&root, file, limits)).collect::<Result<_>>()?;
    if checked.iter().map(|picture| picture.bytes).sum::<u64>() > limits.bytes {
        return Err(refuse(format!("the pictures have more than {} MiB together; make them smaller", limits.bytes >> 20)));
    }
    let mut notes = found.notes();
    notes.extend(captions.unused.iter().map(|text| format!("{} is no picture's caption and was passed over.", text.display())));
    let items = items(checked, &captions, trigger, &mut notes)?;
    Ok(Dataset { folder: root, items, trigger: trigger.map(str::to_owned), notes })
}

struct Checked {
    file: PathBuf,
    sha256: String,
    bytes: u64,
    width: u32,
    height: u32,
}

impl Checked {
    fn read(root: &Path, file: &Path, limits: Limits) -> Result<Self> {
        let name = slashed(file);
        let path = root.join(file);
        let mut bytes = Vec::new();
        File::open(&path)?.take(limits.bytes_per_picture + 1).read_to_end(&mut bytes)?;
        let (width, height) = Dataset::inspect(&name, &bytes, limits)?;
        Ok(Self { file: file.to_owned(), sha256: sha256(&bytes), bytes: bytes.len() as u64, width, height })
    }
}

/// One item a content: of equal pictures the first with a caption stays.
fn items(checked: Vec<Checked>, captions: &Captions, trigger: Option<&str>, notes: &mut Vec<String>) -> Result<Vec<Item>> {
    let mut by_content: BTreeMap<String, Vec<Checked>> = BTreeMap::new();
    for picture in checked {
        by_content.entry(picture.sha256.clone()).or_default().push(picture);
    }
    let mut items = Vec::with_capacity(by_content.len());
    for (sha256, same) in by_content {
        let kept = same.iter().find(|picture| captions.get(&picture.file).is_some()).unwrap_or(&same[0]);
        let file_name = slashed(&kept.file);
        let caption = captions::finished(&file_name, captions.get(&kept.file), trigger)?;
        for other in same.iter().filter(|other| other.file != kept.file) {
            notes.push(format!("{} is the same picture as {file_name} and was left out.", slashed(&other.file)));
        }
        items.push(Item { file_name, sha256, caption, width: kept.width, height: kept.height });
    }
    items.sort_by(|a, b| a.file_name.cmp(&b.file_name));
    Ok(items)
}

/// What a folder holds, as paths relative to it.
#[derive(Default)]
struct Found {
    pictures: Vec<PathBuf>,
    texts: Vec<PathBuf>,
    others: Vec<PathBuf>,
    files: usize,
}

impl Found {
    fn list(root: &Path, limits: Limits) -> Result<Self> {
        let mut found = Self::default();
        found.walk(root, Path::new(""), limits)?;
        found.pictures.sort();
        found.texts.sort();
        Ok(found)
    }

    fn walk(&mut self, root: &Path, below: &Path, limits: Limits) -> Result<()> {
        const DEEPEST: usize = 8;
        for entry in entries(&root.join(below))? {
            let path = below.join(entry.file_name());
            // A link to a folder may lead round in a circle; a link to a file is followed.
            if entry.file_type()?.is_dir() && path.components().count() <= DEEPEST {
                self.walk(root, &path, limits)?;
            } else if entry.path().is_file() {
                self.sort_in(root, path, limits)?;
            }
        }
        Ok(())
    }

    fn sort_in(&mut self, root: &Path, path: PathBuf, limits: Limits) -> Result<()> {
        self.files += 1;
        if self.files > limits.archive_entries {
            return Err(refuse(format!("the folder holds more than {} files; give one with pictures only", limits.archive_entries)));
        }
        let mut head = Vec::new();
        File::open(root.join(&path))?.take(64).read_to_end(&mut head)?;
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default();
        // A file that is called a picture and is none is refused by name when it is checked.
        const CALLED_PICTURES: [&str; 11] = ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "heic", "avif", "jfif"];
        if picture::sniff(&head).is_some() || CALLED_PICTURES.contains(&extension.as_str()) {
            self.pictures.push(path);
            if self.pictures.len() > limits.pictures {
                return Err(refuse(format!("there are more than {} pictures; 5 to 30 are enough for a style", limits.pictures)));
            }
        } else if extension == "txt" {
            self.texts.push(path);
        } else if path != Path::new(captions::METADATA) {
            self.others.push(path);
        }
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        self.others.iter().map(|file| format!("{} is not a picture and was passed over.", file.display())).collect()
    }
}

/// One folder around everything, as zips often have, is gone into.
fn descend(path: &Path) -> Result<PathBuf> {
    let mut root = path.to_owned();
    loop {
        let entries = entries(&root)?;
        match entries.as_slice() {
            [only] if only.file_type()?.is_dir() => root = only.path(),
            _ => return Ok(root),
        }
    }
}

fn entries(folder: &Path) -> Result<Vec<fs::DirEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !unpack::is_junk(Path::new(&entry.file_name())) {
            entries.push(entry);
        }
    }
    entries.sort_by_key(fs::DirEntry::file_name);
    Ok(entries)
}

fn file_hash(path: &Path) -> Result<String> {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    std::io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The path as metadata.jsonl writes it on every system.
fn slashed(path: &Path) -> String {
    path.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
