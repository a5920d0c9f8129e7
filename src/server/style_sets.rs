//! The style sets that ship with Atelier: folders of pictures with captions that share an ending.

use app::api::SampleSet;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What is known of each by name.
const KNOWN: [(&str, &str, &str, &str); 2] = [
    (
        "impressionist",
        "Impressionist",
        "Short strokes and broken colour: sea, gardens, streets in changing light.",
        "impressionist painting",
    ),
    ("mucha", "Mucha", "Bold contours, muted flat colour, a disc behind the figure and an ornamental frame.", "art nouveau panel"),
];

pub struct StyleSets {
    folder: Option<PathBuf>,
}

impl StyleSets {
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// Those that are there.
    pub fn list(&self) -> Vec<SampleSet> {
        let Some(folder) = &self.folder else { return Vec::new() };
        let set = |(name, title, description, trigger): &(&str, &str, &str, &str)| {
            let pictures = pictures(&folder.join(name));
            let preview_urls = pictures.iter().take(4).map(|file| format!("/style-sets/{name}/{file}")).collect();
            (!pictures.is_empty()).then(|| SampleSet {
                name: name.to_string(),
                title: title.to_string(),
                description: description.to_string(),
                trigger: trigger.to_string(),
                pictures: pictures.len() as u32,
                preview_urls,
                recipe: name.to_string(),
            })
        };
        KNOWN.iter().filter_map(set).collect()
    }

    /// A set with its folder; only the known names are looked for.
    pub fn find(&self, name: &str) -> Option<(SampleSet, PathBuf)> {
        let set = self.list().into_iter().find(|set| set.name == name)?;
        let folder = self.folder.as_ref()?.join(&set.name);
        Some((set, folder))
    }
}

fn pictures(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| [".jpg", ".png", ".webp"].iter().any(|extension| name.ends_with(extension))).collect();
    names.sort();
    names
}
