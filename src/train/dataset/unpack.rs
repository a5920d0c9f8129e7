//! A visitor's zip → a folder of plain files, or nothing at all.

use super::{Limits, refuse};
use crate::{Error, Result};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use zip::{ZipArchive, result::ZipError};

/// Unpacks beside `into` and renames at the end, so that `into` is whole or absent.
pub fn unpack(zip: &Path, into: &Path, limits: Limits) -> Result<()> {
    if into.exists() {
        return Err(refuse(format!("{} exists already; unpack into a fresh folder", into.display())));
    }
    let mut file = File::open(zip)?;
    check_before_parsing(&mut file, limits)?;
    let mut archive = ZipArchive::new(file).map_err(unreadable)?;
    if archive.len() > limits.archive_entries {
        return Err(too_many(archive.len(), limits));
    }
    let parent = into.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let folder = tempfile::Builder::new().prefix(".unpacking-").tempdir_in(parent)?;
    let mut bytes_left = limits.bytes;
    for index in 0..archive.len() {
        unpack_entry(&mut archive, index, folder.path(), limits, &mut bytes_left)?;
    }
    fs::rename(folder.keep(), into)?;
    Ok(())
}

fn unpack_entry(archive: &mut ZipArchive<File>, index: usize, folder: &Path, limits: Limits, bytes_left: &mut u64) -> Result<()> {
    let entry = archive.by_index(index).map_err(unreadable)?;
    let name = entry.name().map_err(unreadable)?.replace('\\', "/");
    let path = safe_path(&name)?;
    if entry.is_symlink() {
        return Err(refuse(format!("the zip holds a link ({name}); pack the pictures themselves")));
    }
    if entry.is_dir() || is_junk(&path) {
        return Ok(());
    }
    let allowed = limits.bytes_per_picture.min(*bytes_left);
    if entry.size() > allowed {
        return Err(too_big(&name, limits));
    }
    let target = folder.join(&path);
    fs::create_dir_all(target.parent().unwrap_or(folder))?;
    // The declared size may lie: what counts is what comes out.
    let written = std::io::copy(&mut entry.take(allowed + 1), &mut File::create(target)?)
        .map_err(|error| refuse(format!("{name} in the zip is damaged ({error}); pack it again")))?;
    if written > allowed {
        return Err(too_big(&name, limits));
    }
    *bytes_left -= written;
    Ok(())
}

/// Reads the end record only: a directory of a million entries is refused before it is held in memory.
fn check_before_parsing(file: &mut File, limits: Limits) -> Result<()> {
    let length = file.metadata()?.len();
    if length > limits.bytes {
        return Err(refuse(format!("the zip has {} MiB; at most {} MiB are allowed", length >> 20, limits.bytes >> 20)));
    }
    let tail_length = length.min(22 + u64::from(u16::MAX));
    file.seek(SeekFrom::Start(length - tail_length))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    file.rewind()?;
    let end = tail.windows(4).rposition(|bytes| bytes == b"PK\x05\x06");
    let entries = end.and_then(|at| tail.get(at + 10..at + 12)).map(|count| usize::from(u16::from_le_bytes([count[0], count[1]])));
    match entries {
        None => Err(refuse("this is neither a folder nor a zip; give a folder of pictures or a zip of one")),
        Some(count) if count > limits.archive_entries => Err(too_many(count, limits)),
        Some(_) => Ok(()),
    }
}

/// A relative path of plain names, at most eight deep.
pub fn safe_path(name: &str) -> Result<PathBuf> {
    let climbs = || refuse(format!("the path {name:?} leads out of the set; use plain file names"));
    let path = Path::new(name);
    let has_drive = name.as_bytes().get(1) == Some(&b':');
    if name.contains(['\0', '\n']) || has_drive || name.starts_with('/') {
        return Err(climbs());
    }
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) if part.len() <= 200 => plain.push(part),
            Component::CurDir => {}
            _ => return Err(climbs()),
        }
    }
    match plain.components().count() {
        1..=8 => Ok(plain),
        _ => Err(refuse(format!("the path {name:?} is empty or nested too deeply; put the pictures at the top"))),
    }
}

/// What macOS and editors leave behind: `__MACOSX`, `.DS_Store`, `._picture.jpg` and everything hidden.
pub fn is_junk(path: &Path) -> bool {
    path.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        name.starts_with('.') || ["__MACOSX", "Thumbs.db", "desktop.ini"].contains(&name.as_ref())
    })
}

fn unreadable(error: ZipError) -> Error {
    match error {
        ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) => refuse("the zip asks for a password; pack it without one"),
        ZipError::CompressionMethodNotSupported(_) => {
            refuse("the zip is packed with a rare method; pack it again with ordinary compression")
        }
        error => refuse(format!("the zip cannot be read ({error}); pack it again")),
    }
}

fn too_many(entries: usize, limits: Limits) -> Error {
    let count = if entries == usize::from(u16::MAX) { format!("{entries} or more") } else { entries.to_string() };
    refuse(format!("the zip holds {count} entries; at most {} are allowed", limits.archive_entries))
}

fn too_big(name: &str, limits: Limits) -> Error {
    let (each, all) = (limits.bytes_per_picture >> 20, limits.bytes >> 20);
    refuse(format!("{name} in the zip is too large: {each} MiB are allowed for a file and {all} MiB for all together"))
}
