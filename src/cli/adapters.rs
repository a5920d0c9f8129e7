//! `--adapter FILE[:SCALE]`: parsed, loaded, mounted on trial, and described for the picture's recipe.

use super::{fault::usage, output::note};
use anyhow::{Context, Result};
use engine::{Adapter, Coverage, Device, Pipeline};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// The file that a training writes, and diffusers looks for.
const FILE_NAME: &str = "pytorch_lora_weights.safetensors";
const MAX_SCALE: f64 = 10.0;

/// What was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    path: PathBuf,
    scale: f64,
}

/// An adapter in memory, and how the recipe names it.
pub struct Loaded {
    pub adapter: Arc<Adapter>,
    pub used: Used,
}

/// One adapter in a picture's recipe.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Used {
    pub name: String,
    pub scale: f64,
    pub sha256: String,
}

impl std::str::FromStr for Wanted {
    type Err = String;

    /// `FILE`, `FILE:SCALE`, or a folder in the place of its file. A colon may belong to the path (`C:\a.safetensors`).
    fn from_str(text: &str) -> Result<Self, String> {
        let whole = Self { path: text.into(), scale: 1.0 };
        if whole.path.exists() {
            return Ok(whole);
        }
        let Some((path, scale)) = text.rsplit_once(':').filter(|(path, _)| !path.is_empty()) else { return Ok(whole) };
        match scale.trim().parse::<f64>() {
            Ok(scale) if scale.is_finite() && scale.abs() <= MAX_SCALE => Ok(Self { path: path.into(), scale }),
            Ok(_) => Err(format!("the scale {scale} must be a number from -{MAX_SCALE} to {MAX_SCALE}")),
            Err(_) if scale.is_empty() => Err("the scale after the colon is missing; write FILE:0.8 or only FILE".into()),
            Err(_) if scale.contains(['/', '\\', '.']) => Ok(whole),
            Err(_) => Err(format!("the scale {scale:?} is not a number; write FILE:0.8")),
        }
    }
}

/// Loads the adapters and tries them on the model; what does not fit is said key by key, and one that changes nothing is refused.
pub fn load(wanted: &[Wanted], pipeline: &Pipeline) -> Result<Vec<Loaded>> {
    let loaded = wanted.iter().map(|one| load_one(one, pipeline)).collect::<Result<Vec<_>>>()?;
    for one in &loaded {
        let coverage = pipeline.mount(&[(one.adapter.clone(), one.used.scale)])?.coverage;
        let change = pipeline.measure(&one.adapter)?;
        coverage.iter().for_each(|coverage| report(&one.adapter, coverage, change));
    }
    Ok(loaded)
}

impl Wanted {
    /// The adapter with its strength.
    pub fn read(&self, device: &Device) -> Result<(Arc<Adapter>, f64)> {
        Ok((Arc::new(read(&self.path, device)?), self.scale))
    }
}

/// As the engine takes them.
pub fn mounted(loaded: &[Loaded]) -> Vec<(Arc<Adapter>, f64)> {
    loaded.iter().map(|one| (one.adapter.clone(), one.used.scale)).collect()
}

fn load_one(wanted: &Wanted, pipeline: &Pipeline) -> Result<Loaded> {
    let adapter = read(&wanted.path, &pipeline.device)?;
    let path = file(&wanted.path)?;
    let bytes = std::fs::read(&path).with_context(|| format!("adapter {} cannot be read", path.display()))?;
    let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let used = Used { name: adapter.name.clone(), scale: wanted.scale, sha256 };
    Ok(Loaded { adapter: Arc::new(adapter), used })
}

/// An adapter from its file or its folder.
pub fn read(path: &Path, device: &Device) -> Result<Adapter> {
    let path = file(path)?;
    Ok(Adapter::load_as(&name(&path), &path, device)?)
}

/// The names that adapters have in folders of their own: a training's, PEFT's.
const IN_FOLDERS: [&str; 2] = [FILE_NAME, "adapter_model.safetensors"];

fn file(path: &Path) -> Result<PathBuf> {
    let inside = IN_FOLDERS.iter().map(|name| path.join(name)).find(|file| file.is_file());
    let file = inside.unwrap_or_else(|| path.to_owned());
    if file.is_file() { Ok(file) } else { Err(usage(format!("adapter {}: no such file", path.display()))) }
}

/// Keys that lead nowhere, and why.
pub fn report_left_out(adapter: &Adapter) {
    for (key, reason) in &adapter.left_out {
        note(format_args!("  left out: {key}: {reason}"));
    }
}

/// The file's stem, or its folder's name where every file has the same.
fn name(path: &Path) -> String {
    let by_folder = path.file_name().is_some_and(|file| IN_FOLDERS.iter().any(|name| file == *name));
    let folder = path.parent().and_then(Path::file_name).filter(|_| by_folder);
    folder.or(path.file_stem()).unwrap_or_default().to_string_lossy().into_owned()
}

/// What it is, how it fits, and its change of the velocity at strength 1; in full only where something does not fit.
fn report(adapter: &Adapter, coverage: &Coverage, change: f64) {
    let (name, layout) = (&adapter.name, adapter.layout.name());
    tracing::info!(adapter = name, layout, fit = coverage.in_words(), change = format!("{:.1} %", 100.0 * change), "mounted");
    if coverage.unmatched.is_empty() {
        return;
    }
    note(format_args!("adapter {name} ({layout}): {}; left out:", coverage.in_words()));
    for (key, reason) in &coverage.unmatched {
        note(format_args!("  {key}: {reason}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, f64) {
        let wanted: Wanted = text.parse().unwrap();
        (wanted.path.to_string_lossy().into_owned(), wanted.scale)
    }

    #[test]
    fn a_colon_may_be_a_scale_or_part_of_the_path() {
        assert_eq!(parsed("a.safetensors"), ("a.safetensors".into(), 1.0));
        assert_eq!(parsed("a.safetensors:0.5"), ("a.safetensors".into(), 0.5));
        assert_eq!(parsed("a.safetensors:-1"), ("a.safetensors".into(), -1.0));
        assert_eq!(parsed(r"C:\sets\a.safetensors"), (r"C:\sets\a.safetensors".into(), 1.0));
        assert_eq!(parsed(r"C:\sets\a.safetensors:0.8"), (r"C:\sets\a.safetensors".into(), 0.8));
    }

    #[test]
    fn a_bad_scale_is_refused() {
        for text in ["a.safetensors:", "a.safetensors:NaN", "a.safetensors:inf", "a.safetensors:11", "a.safetensors:much"] {
            assert!(text.parse::<Wanted>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_existing_file_with_a_colon_is_that_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a:0.5");
        std::fs::write(&path, "").unwrap();
        assert_eq!(parsed(path.to_str().unwrap()), (path.to_str().unwrap().into(), 1.0));
    }

    #[test]
    fn adapters_are_named_by_folder_or_stem() {
        assert_eq!(name(Path::new("runs/mucha/pytorch_lora_weights.safetensors")), "mucha");
        assert_eq!(name(Path::new("mucha-v2.safetensors")), "mucha-v2");
    }
}
