//! A part of a model on disk, in whatever form people have it, read tensor by tensor under one set of names and checked key by key. Or a
//! synthetic model in its place.

mod assembly;
pub mod contents;
pub mod file;
mod gguf;
mod infer;
mod model;
mod names;
mod safetensors;
mod stored;
mod tensors;

pub use assembly::{Assembly, Chosen};
pub use model::Model;
pub use tensors::Tensors;

use crate::{Error, Precision, Result, synthetic::Synthetic};
use candle_core::{DType, Device, Tensor};
use contents::Found;
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{Display, Write},
    fs::File,
    path::{Path, PathBuf},
};

/// The names diffusers and transformers give to the weights of a part.
const WEIGHT_FILES: [&str; 2] = ["diffusion_pytorch_model.safetensors", "model.safetensors"];

/// Reads a JSON file; the error names the file and what was wrong in it.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::model(path, read_problem(&e)))?;
    serde_json::from_str(&text).map_err(|e| Error::model(path, format!("not the JSON that is expected here: {e}")))
}

fn read_problem(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "this file of the model is missing".into(),
        _ => format!("cannot be read: {error}"),
    }
}

/// SHA-256 over whole files, in the order given.
pub fn fingerprint(files: &[PathBuf]) -> Result<String> {
    let mut hasher = Sha256::new();
    for path in files {
        let mut file = File::open(path).map_err(|e| Error::model(path, read_problem(&e)))?;
        std::io::copy(&mut file, &mut hasher).map_err(|e| Error::model(path, read_problem(&e)))?;
    }
    let mut hex = String::with_capacity(64);
    for byte in hasher.finalize() {
        write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
    }
    Ok(hex)
}

/// The weights of one part of a model (`transformer`, `vae`, …), held on disk until they are taken, one tensor at a time.
pub struct Checkpoint {
    source: Source,
    device: Device,
}

enum Source {
    Files { tensors: Tensors, config: Config },
    Synthetic { model: Synthetic, part: String },
}

/// A part's configuration.
enum Config {
    File(PathBuf),
    /// Of a part that came without one.
    Inferred(serde_json::Value),
}

impl Checkpoint {
    /// Opens `model/part`: a single safetensors file, or the shards that its `*.index.json` names.
    pub fn open(model: &Path, part: &str, device: &Device) -> Result<Self> {
        let folder = model.join(part);
        if !folder.is_dir() {
            return Err(Error::model(folder, "this folder of the model is missing"));
        }
        let tensors = Tensors::open(&weight_files(&folder)?, None)?;
        Ok(Self { source: Source::Files { tensors, config: Config::File(folder.join("config.json")) }, device: device.clone() })
    }

    /// Opens a part that lies in a file, alone or beside others.
    pub fn open_file(path: &Path, part: &str, found: &Found, device: &Device) -> Result<Self> {
        let tensors = Tensors::open(std::slice::from_ref(&path.to_owned()), Some(found.clone()))?;
        let config = Config::Inferred(infer::config(part, &tensors)?);
        Ok(Self { source: Source::Files { tensors, config }, device: device.clone() })
    }

    /// Has every tensor that is asked for, in whatever shape.
    pub fn synthetic(model: Synthetic, part: &str, device: &Device) -> Self {
        Self { source: Source::Synthetic { model, part: part.to_owned() }, device: device.clone() }
    }

    /// The configuration of this part.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T> {
        match &self.source {
            Source::Files { config: Config::File(path), .. } => read_json(path),
            Source::Files { config: Config::Inferred(config), .. } => {
                serde_json::from_value(config.clone()).map_err(|e| self.config_error(format!("its shapes make no configuration: {e}")))
            }
            Source::Synthetic { model, part } => Ok(model.config(part)),
        }
    }

    /// The error for a config that this engine cannot follow.
    pub fn config_error(&self, problem: impl Display) -> Error {
        match &self.source {
            Source::Files { config: Config::File(path), .. } => Error::model(path, problem),
            Source::Files { tensors, .. } => tensors.refuse(problem),
            Source::Synthetic { model, part } => Error::model(format!("synthetic {model}, {part}"), problem),
        }
    }

    /// The folder of a part in diffusers layout.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match &self.source {
            Source::Files { config: Config::File(path), .. } => path.parent(),
            _ => None,
        }
    }

    /// The weight files, for [`fingerprint`].
    pub fn files(&self) -> Vec<PathBuf> {
        match &self.source {
            Source::Files { tensors, .. } => tensors.paths().map(Path::to_owned).collect(),
            Source::Synthetic { .. } => Vec::new(),
        }
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The keys from the top, for weights as they are stored on a GPU (bf16) or computed with on the CPU (f32).
    pub fn keys(&self) -> Keys<'_> {
        let precision = if self.device.is_cpu() { Precision::F32 } else { Precision::Bf16 };
        Keys { checkpoint: self, path: String::new(), precision }
    }

    /// Says at debug level which tensors nothing asked for.
    pub fn report_unused(&self) {
        let Source::Files { tensors, .. } = &self.source else { return };
        let unused = tensors.unused();
        if !unused.is_empty() {
            tracing::debug!(file = ?tensors.paths().next(), ?unused, "unused tensors");
        }
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        match &self.source {
            Source::Files { tensors, .. } => tensors.has(key),
            Source::Synthetic { .. } => true,
        }
    }

    /// A tensor in bf16, f16 or f32: as it is stored, or what its quantised form stands for.
    pub(crate) fn take(&self, key: &str, shape: &[usize], device: &Device) -> Result<Tensor> {
        match &self.source {
            Source::Files { tensors, .. } => tensors.take(key, shape, device),
            // Drawn where that is fast.
            Source::Synthetic { model, .. } => Ok(model.draw(key, shape, &self.device)?.to_device(device)?),
        }
    }
}

/// The single weight file of a folder, or the shards of its index in order of name.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    for name in WEIGHT_FILES {
        let single = folder.join(name);
        if single.is_file() {
            return Ok(vec![single]);
        }
        let index = folder.join(format!("{name}.index.json"));
        if index.is_file() {
            let names: BTreeSet<String> = read_json::<Index>(&index)?.weight_map.into_values().collect();
            return names.into_iter().map(|name| shard_path(folder, &index, &name)).collect();
        }
    }
    Err(Error::model(folder, format!("no weights: neither {} nor {} is here, nor an index of shards", WEIGHT_FILES[0], WEIGHT_FILES[1])))
}

fn shard_path(folder: &Path, index: &Path, name: &str) -> Result<PathBuf> {
    if name.contains(['/', '\\']) {
        return Err(Error::model(index, format!("shard {name:?} must be a plain file name")));
    }
    let path = folder.join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::model(path, "this shard is named by the index but missing; download it again"))
}

/// A place in a checkpoint's tree of names, such as `transformer_blocks.3.attn`, and how the linear layers below it are held.
#[derive(Clone)]
pub struct Keys<'a> {
    checkpoint: &'a Checkpoint,
    path: String,
    precision: Precision,
}

impl<'a> Keys<'a> {
    /// The place `name` below this one.
    pub fn at(&self, name: impl Display) -> Keys<'a> {
        let path = if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) };
        Keys { path, ..self.clone() }
    }

    /// The same place, with the linear layers below it held so.
    pub fn with(&self, precision: Precision) -> Keys<'a> {
        Keys { precision, ..self.clone() }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The type of activations here, and of what is not quantised: on the CPU always f32.
    pub fn dtype(&self) -> DType {
        if self.checkpoint.device.is_cpu() { DType::F32 } else { self.precision.dtype() }
    }

    pub fn device(&self) -> &'a Device {
        &self.checkpoint.device
    }

    pub fn has(&self, name: &str) -> bool {
        self.checkpoint.has(&self.at(name).path)
    }

    /// A tensor in its stored type (bf16, f16 or f32); missing or of another shape is an error that names key and file.
    pub fn take(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.checkpoint.take(&self.at(name).path, shape, &self.checkpoint.device)
    }

    /// The same on the CPU, wherever the model computes.
    pub fn take_on_host(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.checkpoint.take(&self.at(name).path, shape, &Device::Cpu)
    }

    /// The same in the type of activations: for biases, norms, embeddings and convolutions.
    pub fn take_active(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        Ok(self.take(name, shape)?.to_dtype(self.dtype())?)
    }

    /// The same in f32, whatever activations are.
    pub fn take_f32(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        Ok(self.take(name, shape)?.to_dtype(DType::F32)?)
    }
}
