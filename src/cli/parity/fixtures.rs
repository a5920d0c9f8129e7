//! A folder of reference tensors: `meta.json` and safetensors files. Missing or damaged ones are said in a sentence.

use super::super::fault::usage;
use anyhow::Result;
use engine::{Device, Size, Tensor};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

pub struct Fixtures {
    pub folder: PathBuf,
    meta: Value,
    /// Where the tensors are wanted.
    device: Device,
}

/// One safetensors file.
pub struct File {
    /// The name without extension: the stage.
    pub stage: String,
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
}

impl Fixtures {
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("meta.json");
        if !folder.is_dir() {
            return Err(usage(format!("{}: no such folder of reference tensors", folder.display())));
        }
        let text =
            fs::read_to_string(&path).map_err(|_| usage(format!("{}: missing; it describes the reference tensors", path.display())))?;
        let meta: Value = serde_json::from_str(&text).map_err(|e| usage(format!("{}: not JSON ({e})", path.display())))?;
        if !meta.is_object() {
            return Err(usage(format!("{}: not an object of settings", path.display())));
        }
        Ok(Self { folder: folder.to_owned(), meta, device: Device::Cpu })
    }

    /// The same with the tensors on the pipeline's device.
    pub fn on(self, device: &Device) -> Self {
        Self { device: device.clone(), ..self }
    }

    /// The stages of one kind, in order of name: files `KIND.safetensors` and `KIND_….safetensors`, and those that meta.json describes.
    pub fn stages(&self, kind: &str) -> Result<Vec<String>> {
        let entries = fs::read_dir(&self.folder).map_err(|e| usage(format!("{}: cannot be read ({e})", self.folder.display())))?;
        let files = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".safetensors")?.to_owned()));
        let described = self.meta.get(kind).map(|section| match section.as_object() {
            Some(map) if kind == "transformer" => map.keys().cloned().collect(),
            _ => vec![kind.to_owned()],
        });
        let mut stages: Vec<String> = files
            .filter(|name| name == kind || name.strip_prefix(kind).is_some_and(|rest| rest.starts_with('_')))
            .chain(described.into_iter().flatten())
            .collect();
        stages.sort();
        stages.dedup();
        Ok(stages)
    }

    pub fn has(&self, key: &str) -> bool {
        self.meta.get(key).is_some()
    }

    /// A section of meta.json.
    pub fn meta<T: DeserializeOwned>(&self, pointer: &str) -> Result<T> {
        let value = self.meta.pointer(pointer).ok_or_else(|| self.meta_fault(pointer, "is missing"))?;
        T::deserialize(value).map_err(|e| self.meta_fault(pointer, e))
    }

    /// The same where it may be absent.
    pub fn meta_if_any<T: DeserializeOwned>(&self, pointer: &str) -> Result<Option<T>> {
        self.meta.pointer(pointer).filter(|value| !value.is_null()).map(|_| self.meta(pointer)).transpose()
    }

    fn meta_fault(&self, pointer: &str, problem: impl std::fmt::Display) -> anyhow::Error {
        usage(format!("{}: {} {problem}", self.folder.join("meta.json").display(), pointer.trim_start_matches('/')))
    }

    pub fn file(&self, stage: &str) -> Result<File> {
        let path = self.folder.join(format!("{stage}.safetensors"));
        if !path.is_file() {
            return Err(usage(format!("{}: missing, though meta.json describes it", path.display())));
        }
        let tensors = candle_core::safetensors::load(&path, &self.device)
            .map_err(|e| usage(format!("{}: truncated or not a safetensors file ({})", path.display(), sentence(&e))))?;
        Ok(File { stage: stage.to_owned(), path, tensors })
    }
}

/// The first line: candle adds a backtrace where the environment asks for one.
fn sentence(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

impl File {
    pub fn get(&self, key: &str) -> Result<&Tensor> {
        self.get_if_any(key).ok_or_else(|| usage(format!("{}: tensor {key} is missing", self.path.display())))
    }

    pub fn get_if_any(&self, key: &str) -> Option<&Tensor> {
        self.tensors.get(key)
    }

    /// Keys that begin with `prefix`, with what follows it, in order.
    pub fn with_prefix<'a>(&'a self, prefix: &str) -> Vec<(&'a str, &'a Tensor)> {
        let mut found: Vec<_> = self.tensors.iter().filter_map(|(key, tensor)| Some((key.strip_prefix(prefix)?, tensor))).collect();
        found.sort_by_key(|(key, _)| *key);
        found
    }

    /// Keys of the form `PREFIX…NUMBER…`, in order of the number.
    pub fn numbered(&self, prefix: &str) -> Vec<(usize, &Tensor)> {
        let mut found: Vec<_> =
            self.with_prefix(prefix).into_iter().filter_map(|(rest, tensor)| Some((rest.parse().ok()?, tensor))).collect();
        found.sort_by_key(|(number, _)| *number);
        found
    }

    /// An error about this file.
    pub fn fault(&self, problem: impl std::fmt::Display) -> anyhow::Error {
        usage(format!("{}: {problem}", self.path.display()))
    }

    /// The picture size behind `img_ids`, which hold (0, row, column) of every token.
    pub fn size(&self) -> Result<Size> {
        let ids = self.get("img_ids")?;
        let ids = if ids.rank() == 3 { ids.get(0)? } else { ids.clone() };
        let most = ids.to_dtype(engine::DType::F32)?.max(0)?.to_vec1::<f32>()?;
        let [_, row, column] = most[..] else { return Err(self.fault("img_ids must have three columns")) };
        Ok(Size::new((column as usize + 1) * 16, (row as usize + 1) * 16)?)
    }
}
