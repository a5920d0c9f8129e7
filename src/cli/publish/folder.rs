//! What a training left: the adapter, what is known of it, and its last samples beside those of step 0.

use super::super::fault::usage;
use crate::hub::{
    model_card::Example,
    package::{DESCRIPTION, WEIGHTS},
};
use anyhow::{Context, Result};
use bytes::Bytes;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

pub struct Folder {
    pub name: String,
    pub weights: Vec<u8>,
    /// adapter.json, as far as there is one.
    pub description: Value,
    pub examples: Vec<Example>,
}

impl Folder {
    pub fn read(adapter: &Path) -> Result<Self> {
        let file = if adapter.is_dir() { adapter.join(WEIGHTS) } else { adapter.to_owned() };
        if !file.is_file() {
            return Err(usage(format!("--adapter {}: no such file", file.display())));
        }
        let weights = fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        let folder = file.parent().unwrap_or(Path::new("."));
        // A description lies beside the file that it describes, under the name that a training gives to both.
        let described =
            file.file_name().is_some_and(|name| name == WEIGHTS).then(|| folder.join(DESCRIPTION)).filter(|path| path.is_file());
        let description: Value = match &described {
            Some(path) => serde_json::from_slice(&fs::read(path)?).with_context(|| format!("{} cannot be read", path.display()))?,
            None => json!({}),
        };
        if !description.is_object() {
            return Err(usage(format!("{DESCRIPTION} beside the adapter does not describe one")));
        }
        let examples = if described.is_some() { examples(folder, &description)? } else { Vec::new() };
        Ok(Self { name: name(&file), weights, description, examples })
    }
}

/// The file's stem, or its folder's name where every file has the same.
fn name(file: &Path) -> String {
    let by_folder = file.file_name().is_some_and(|name| name == WEIGHTS);
    let absolute = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let folder = absolute.parent().and_then(Path::file_name).filter(|_| by_folder);
    folder.or(absolute.file_stem()).unwrap_or_default().to_string_lossy().into_owned()
}

/// `samples/step-000200-01.png` is the second prompt's at step 200; at step 0 the adapter does nothing yet.
fn examples(folder: &Path, description: &Value) -> Result<Vec<Example>> {
    let samples: BTreeMap<(u64, usize), PathBuf> = fs::read_dir(folder.join("samples"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((numbers(&entry.file_name().to_string_lossy())?, entry.path())))
        .collect();
    let Some(last) = samples.keys().map(|(step, _)| *step).max().filter(|step| *step > 0) else { return Ok(Vec::new()) };
    let mut examples = Vec::new();
    for ((_, index), path) in samples.iter().filter(|((step, _), _)| *step == last) {
        let Some(prompt) = description["recipe"]["sample_prompts"][index].as_str() else { continue };
        let base = samples.get(&(0, *index)).map(|path| fs::read(path).map(Bytes::from)).transpose()?;
        examples.push(Example { prompt: prompt.to_owned(), adapter: fs::read(path)?.into(), base, note: format!("sample at step {last}") });
    }
    Ok(examples)
}

fn numbers(name: &str) -> Option<(u64, usize)> {
    let (step, index) = name.strip_prefix("step-")?.strip_suffix(".png")?.split_once('-')?;
    Some((step.parse().ok()?, index.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_become_pairs_with_their_prompts() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            fs::create_dir_all(folder.path().join(path).parent().unwrap()).unwrap();
            fs::write(folder.path().join(path), text).unwrap();
        };
        put(WEIGHTS, "w");
        put(DESCRIPTION, r#"{"name": "Mucha", "recipe": {"sample_prompts": ["a cat", "a lake"]}}"#);
        for (name, text) in
            [("step-000000-00", "a"), ("step-000020-00", "b"), ("step-000040-00", "c"), ("step-000040-01", "d"), ("notes", "e")]
        {
            put(&format!("samples/{name}.png"), text);
        }
        let read = Folder::read(folder.path()).unwrap();
        let found: Vec<_> = read.examples.iter().map(|one| (one.prompt.as_str(), one.adapter.clone(), one.base.clone())).collect();
        assert_eq!(found, [("a cat", "c".into(), Some("a".into())), ("a lake", "d".into(), None)]);
        assert!(Folder::read(&folder.path().join("nothing.safetensors")).is_err());
    }
}
