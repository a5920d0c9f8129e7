//! Captions: `metadata.jsonl` (`file_name`, `text`), a `.txt` beside each picture, or the trigger phrase alone.

use super::{Item, Limits, refuse, unpack::safe_path};
use crate::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

pub const METADATA: &str = "metadata.jsonl";

#[derive(Serialize, Deserialize)]
struct Line {
    file_name: String,
    text: Option<String>,
}

/// Captions by picture path, as the set gives them.
#[derive(Default)]
pub struct Captions {
    by_file: BTreeMap<PathBuf, String>,
    /// `.txt` files that are nobody's caption.
    pub unused: Vec<PathBuf>,
}

impl Captions {
    /// Reads what the folder holds for these pictures. `texts` are all its `.txt` files.
    pub fn read(folder: &Path, pictures: &[PathBuf], texts: &[PathBuf]) -> Result<Self> {
        let mut captions = Self::default();
        captions.read_sidecars(folder, pictures, texts)?;
        captions.read_metadata(folder, pictures)?;
        Ok(captions)
    }

    pub fn get(&self, picture: &Path) -> Option<&str> {
        self.by_file.get(picture).map(String::as_str).filter(|caption| !caption.is_empty())
    }

    fn read_sidecars(&mut self, folder: &Path, pictures: &[PathBuf], texts: &[PathBuf]) -> Result<()> {
        for text in texts {
            let Some(picture) = pictures.iter().find(|picture| picture.with_extension("txt") == *text) else {
                self.unused.push(text.clone());
                continue;
            };
            let caption = read_text(folder, text)?;
            self.by_file.insert(picture.clone(), one_line(&caption));
        }
        if self.by_file.is_empty() {
            return Ok(());
        }
        match self.unused.iter().find(|text| !is_about_the_set(text)) {
            Some(stray) => {
                let stray = stray.display();
                Err(refuse(format!("{stray} is a caption without a picture; add the picture of that name or remove the file")))
            }
            None => Ok(()),
        }
    }

    fn read_metadata(&mut self, folder: &Path, pictures: &[PathBuf]) -> Result<()> {
        if !folder.join(METADATA).is_file() {
            return Ok(());
        }
        let mut seen = BTreeMap::new();
        for (index, line) in read_text(folder, Path::new(METADATA))?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let place = format!("{METADATA} line {}", index + 1);
            let Line { file_name, text } = serde_json::from_str(line)
                .map_err(|_| refuse(format!("{place} must be an object such as {{\"file_name\": \"a.jpg\", \"text\": \"a caption\"}}")))?;
            let picture = safe_path(&file_name)?;
            if !pictures.contains(&picture) {
                return Err(refuse(format!("{place} names {file_name:?}, which is not among the pictures; add it or remove the line")));
            }
            let caption = one_line(&text.unwrap_or_default());
            if seen.insert(picture.clone(), caption.clone()).is_some_and(|before| before != caption) {
                return Err(refuse(format!("{place} gives {file_name:?} a second caption; keep one of them")));
            }
            self.by_file.insert(picture, caption);
        }
        Ok(())
    }
}

/// The caption as it will be trained: with the trigger, within the limit, never empty.
pub fn finished(file: &str, caption: Option<&str>, trigger: Option<&str>) -> Result<String> {
    let caption = match (caption, trigger) {
        (None, None) => {
            return Err(refuse(format!("{file} has no caption; write one in {METADATA} or in a .txt beside it, or give a trigger phrase")));
        }
        (None, Some(trigger)) => trigger.to_owned(),
        (Some(caption), Some(trigger)) if !holds(caption, trigger) => {
            format!("{}, {trigger}", caption.trim_end_matches([',', ' ']))
        }
        (Some(caption), _) => caption.to_owned(),
    };
    let characters = caption.chars().count();
    if characters > Limits::CAPTION_CHARS {
        return Err(refuse(format!("the caption of {file} has {characters} characters; at most {} are allowed", Limits::CAPTION_CHARS)));
    }
    Ok(caption)
}

/// Whether the trigger stands in the caption as words of its own: "ink" does not stand in "a pink house".
fn holds(caption: &str, trigger: &str) -> bool {
    let (caption, trigger) = (caption.to_lowercase(), trigger.to_lowercase());
    caption.match_indices(&trigger).any(|(at, found)| {
        let (before, after) = (&caption[..at], &caption[at + found.len()..]);
        !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric)
    })
}

pub fn save(folder: &Path, items: &[Item]) -> Result<()> {
    let mut file = crate::atomic::temporary(folder)?;
    for Item { file_name, caption, .. } in items {
        let line = Line { file_name: file_name.clone(), text: Some(caption.clone()) };
        writeln!(file, "{}", serde_json::to_string(&line).map_err(std::io::Error::from)?)?;
    }
    crate::atomic::persist(file, &folder.join(METADATA))
}

fn read_text(folder: &Path, file: &Path) -> Result<String> {
    const MOST: u64 = 16 << 20;
    let (path, name) = (folder.join(file), file.display());
    if fs::metadata(&path)?.len() > MOST {
        return Err(refuse(format!("{name} has more than {} MiB; it should hold captions only", MOST >> 20)));
    }
    let text = String::from_utf8(fs::read(path)?).map_err(|_| refuse(format!("{name} is not UTF-8 text; save it as UTF-8")))?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

fn one_line(caption: &str) -> String {
    caption.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_about_the_set(text: &Path) -> bool {
    let stem = text.file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
    ["readme", "license", "licence", "notes", "credits", "prompts"].iter().any(|word| stem.contains(word))
}
