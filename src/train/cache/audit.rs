//! Caption ↔ picture, read back from the cache's files: what a person checks before trusting a run.

use super::latents::Latents;
use crate::{Dataset, Error, Result};
use std::collections::HashMap;
use std::fmt;

/// One line for each picture. Prints as a table.
#[derive(Debug)]
pub struct Audit {
    pub lines: Vec<Line>,
}

#[derive(Debug)]
pub struct Line {
    pub file_name: String,
    pub sha256: String,
    /// Frames whose latents are cached under this picture's hash.
    pub frames: Vec<String>,
    /// The caption that the embeddings file holds for this picture's hash.
    pub caption: String,
}

impl Audit {
    /// Refuses a cache that lacks a picture or holds another caption for it than the dataset.
    pub(super) fn new(dataset: &Dataset, captions: &HashMap<String, String>, latents: &Latents) -> Result<Self> {
        let cached = latents.list()?;
        let line = |item: &crate::dataset::Item| {
            let caption = captions.get(&item.sha256).filter(|caption| **caption == item.caption);
            let caption = caption.ok_or_else(|| Error::State(format!("the cache holds another caption for {}", item.file_name)))?;
            let frames: Vec<_> = cached.iter().filter(|(hash, _)| *hash == item.sha256).map(|(_, frame)| frame.clone()).collect();
            if frames.is_empty() {
                return Err(Error::State(format!("the cache holds no latents of {}", item.file_name)));
            }
            Ok(Line { file_name: item.file_name.clone(), sha256: item.sha256.clone(), frames, caption: caption.clone() })
        };
        Ok(Self { lines: dataset.items.iter().map(line).collect::<Result<_>>()? })
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frames = |line: &Line| line.frames.join(" ");
        let width = |of: &dyn Fn(&Line) -> usize, least: usize| self.lines.iter().map(of).max().unwrap_or(0).max(least);
        let names = width(&|line| line.file_name.chars().count(), 7);
        let frame_width = width(&|line| frames(line).len(), 5);
        writeln!(f, "{:names$}  {:12}  {:frame_width$}  caption", "picture", "sha256", "frame")?;
        for line in &self.lines {
            writeln!(f, "{:names$}  {:12}  {:frame_width$}  {}", line.file_name, &line.sha256[..12], frames(line), line.caption)?;
        }
        Ok(())
    }
}
