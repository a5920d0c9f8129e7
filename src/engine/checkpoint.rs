//! A model folder in diffusers layout: configs and (sharded) safetensors, checked key by key. Or a synthetic model in its place.

use crate::{Error, Precision, Result, synthetic::Synthetic};
use candle_core::{DType, Device, Tensor};
use memmap2::Mmap;
use safetensors::{SafeTensors, tensor::Metadata};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::{Display, Write},
    fs::File,
    path::{Path, PathBuf},
    sync::Mutex,
};

/// The names diffusers and transformers give to the weights of a part.
const WEIGHT_FILES: [&str; 2] = ["diffusion_pytorch_model.safetensors", "model.safetensors"];

/// Where the parts of a model come from.
#[derive(Clone, Debug)]
pub enum Model {
    /// A FLUX.1 folder in diffusers layout.
    Folder(PathBuf),
    Synthetic(Synthetic),
}

impl Model {
    /// The folder's name, such as `flux-mini`.
    pub fn name(&self) -> String {
        match self {
            Self::Folder(folder) => {
                let absolute = folder.canonicalize().unwrap_or_else(|_| folder.clone());
                absolute.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
            }
            Self::Synthetic(synthetic) => format!("synthetic {synthetic}"),
        }
    }

    /// Refuses a folder that is not a FLUX.1 pipeline in diffusers layout.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Folder(folder) => check_model_folder(folder),
            Self::Synthetic(_) => Ok(()),
        }
    }

    /// `config.json` of a part, without its weights.
    pub fn config<T: DeserializeOwned>(&self, part: &str) -> Result<T> {
        match self {
            Self::Folder(folder) => read_json(&folder.join(part).join("config.json")),
            Self::Synthetic(synthetic) => Ok(synthetic.config(part)),
        }
    }

    /// The weights of a part: `transformer`, `vae`, …
    pub fn part(&self, part: &str, device: &Device) -> Result<Checkpoint> {
        match self {
            Self::Folder(folder) => Checkpoint::open(folder, part, device),
            Self::Synthetic(synthetic) => Ok(Checkpoint::synthetic(*synthetic, part, device)),
        }
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Model {
    fn from(folder: &P) -> Self {
        Self::Folder(folder.as_ref().to_owned())
    }
}

fn check_model_folder(model: &Path) -> Result<()> {
    #[derive(Deserialize)]
    struct Index {
        _class_name: String,
    }
    if !model.is_dir() {
        return Err(Error::model(model, "no such folder; give the folder of a FLUX.1 model in diffusers layout, such as models/flux-mini"));
    }
    let path = model.join("model_index.json");
    if !path.is_file() {
        return Err(Error::model(model, "not a FLUX.1 model in diffusers layout: it has no model_index.json"));
    }
    let index: Index = read_json(&path)?;
    if index._class_name != "FluxPipeline" {
        return Err(Error::model(path, format!("this is a {}; only FluxPipeline (FLUX.1 text to image) is supported", index._class_name)));
    }
    Ok(())
}

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

/// One safetensors file, memory-mapped. Its header is parsed and checked against the file's length on opening.
struct Shard {
    path: PathBuf,
    map: Mmap,
    metadata: Metadata,
    /// Where the tensors' bytes begin.
    data: usize,
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self> {
        let file = File::open(&path).map_err(|e| Error::model(&path, read_problem(&e)))?;
        // SAFETY: model files are read-only to us; one that shrinks under a running program faults, as with every memory-mapped reader.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::model(&path, read_problem(&e)))?;
        let (header, metadata) = SafeTensors::read_metadata(&map)
            .map_err(|e| Error::model(&path, format!("truncated or not a safetensors file ({e}); download it again")))?;
        Ok(Self { path, data: header + 8, map, metadata })
    }

    fn read(&self, key: &str, shape: &[usize], device: &Device) -> Result<Tensor> {
        let info = self.metadata.info(key).ok_or_else(|| Error::model(&self.path, format!("tensor {key} is missing")))?;
        if info.shape != shape {
            return Err(Error::model(&self.path, format!("tensor {key} has shape {:?}, but the config asks for {shape:?}", info.shape)));
        }
        let dtype = match info.dtype {
            safetensors::Dtype::BF16 => DType::BF16,
            safetensors::Dtype::F16 => DType::F16,
            safetensors::Dtype::F32 => DType::F32,
            other => return Err(Error::model(&self.path, format!("tensor {key} is stored as {other}; bf16, f16 and f32 are read"))),
        };
        let (start, end) = info.data_offsets;
        Ok(Tensor::from_raw_buffer(&self.map[self.data + start..self.data + end], dtype, shape, device)?)
    }
}

/// The weights of one part of a model (`transformer`, `vae`, …), held on disk until they are taken, one tensor at a time.
pub struct Checkpoint {
    source: Source,
    taken: Mutex<BTreeSet<String>>,
    device: Device,
}

enum Source {
    Files {
        folder: PathBuf,
        shards: Vec<Shard>,
        /// Key → index into `shards`.
        keys: HashMap<String, usize>,
    },
    Synthetic {
        model: Synthetic,
        part: String,
    },
}

impl Checkpoint {
    /// Opens `model/part`: a single safetensors file, or the shards that its `*.index.json` names.
    pub fn open(model: &Path, part: &str, device: &Device) -> Result<Self> {
        let folder = model.join(part);
        if !folder.is_dir() {
            return Err(Error::model(folder, "this folder of the model is missing"));
        }
        let shards = weight_files(&folder)?.into_iter().map(Shard::open).collect::<Result<Vec<_>>>()?;
        let keys = shards
            .iter()
            .enumerate()
            .flat_map(|(index, shard)| shard.metadata.tensors().into_keys().map(move |key| (key, index)))
            .collect();
        Ok(Self { source: Source::Files { folder, shards, keys }, taken: Mutex::default(), device: device.clone() })
    }

    /// Has every tensor that is asked for, in whatever shape.
    pub fn synthetic(model: Synthetic, part: &str, device: &Device) -> Self {
        let source = Source::Synthetic { model, part: part.to_owned() };
        Self { source, taken: Mutex::default(), device: device.clone() }
    }

    /// `config.json` of this part.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T> {
        match &self.source {
            Source::Files { folder, .. } => read_json(&folder.join("config.json")),
            Source::Synthetic { model, part } => Ok(model.config(part)),
        }
    }

    /// The error for a config that this engine cannot follow.
    pub fn config_error(&self, problem: impl Display) -> Error {
        match &self.source {
            Source::Files { folder, .. } => Error::model(folder.join("config.json"), problem),
            Source::Synthetic { model, part } => Error::model(format!("synthetic {model}, {part}"), problem),
        }
    }

    /// The weight files, for [`fingerprint`].
    pub fn files(&self) -> Vec<PathBuf> {
        match &self.source {
            Source::Files { shards, .. } => shards.iter().map(|shard| shard.path.clone()).collect(),
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
        let Source::Files { folder, keys, .. } = &self.source else { return };
        let taken = self.taken.lock().unwrap_or_else(|e| e.into_inner());
        let unused: Vec<_> = keys.keys().filter(|key| !taken.contains(*key)).collect();
        if !unused.is_empty() {
            tracing::debug!(folder = %folder.display(), ?unused, "unused tensors");
        }
    }

    fn has(&self, key: &str) -> bool {
        match &self.source {
            Source::Files { keys, .. } => keys.contains_key(key),
            Source::Synthetic { .. } => true,
        }
    }

    /// A tensor as it is stored: bf16, f16 or f32.
    fn take(&self, key: &str, shape: &[usize], device: &Device) -> Result<Tensor> {
        let (folder, shards, keys) = match &self.source {
            Source::Files { folder, shards, keys } => (folder, shards, keys),
            // Drawn where that is fast.
            Source::Synthetic { model, .. } => return Ok(model.draw(key, shape, &self.device)?.to_device(device)?),
        };
        let shard = keys.get(key).map(|&index| &shards[index]);
        let shard = shard.ok_or_else(|| Error::model(folder, format!("tensor {key} {shape:?} is missing")))?;
        self.taken.lock().unwrap_or_else(|e| e.into_inner()).insert(key.to_owned());
        shard.read(key, shape, device)
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
