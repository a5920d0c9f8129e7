//! Writing adapters for others: diffusers' file, kohya's and ComfyUI's.

use super::{Adapter, LoraPair, TEXT_ENCODER, TRANSFORMER, fuse, header};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use safetensors::{Dtype, tensor::TensorView};
use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs,
    io::Write,
    path::Path,
    str::FromStr,
};

/// Whose names a file is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// `pytorch_lora_weights.safetensors` as `FluxPipeline.load_lora_weights` reads it, with a PEFT header and no alpha tensors.
    #[default]
    Diffusers,
    /// `lora_unet_….lora_down.weight`, with alpha tensors.
    Kohya,
    /// `diffusion_model.….lora_A.weight` by BFL's names.
    ComfyUi,
}

impl Target {
    pub const ALL: [Self; 3] = [Self::Diffusers, Self::Kohya, Self::ComfyUi];

    pub fn name(self) -> &'static str {
        match self {
            Self::Diffusers => "diffusers",
            Self::Kohya => "kohya",
            Self::ComfyUi => "comfyui",
        }
    }

    /// The layers that are written for these, under this target's names.
    fn layers(self, pairs: BTreeMap<String, LoraPair>) -> Result<BTreeMap<String, LoraPair>> {
        let (clip, transformer): (BTreeMap<_, _>, BTreeMap<_, _>) = pairs.into_iter().partition(|(path, _)| path.starts_with(TEXT_ENCODER));
        let transformer = if self == Self::Diffusers { transformer } else { fuse::fused(transformer)? };
        let named = transformer.into_iter().map(|(path, pair)| (self.transformer_key(&path), pair));
        Ok(named.chain(clip.into_iter().map(|(path, pair)| (self.clip_key(&path), pair))).collect())
    }

    fn transformer_key(self, path: &str) -> String {
        match self {
            Self::Diffusers => format!("{TRANSFORMER}{path}"),
            Self::Kohya => format!("lora_unet_{}", path.replace('.', "_")),
            Self::ComfyUi => format!("diffusion_model.{path}"),
        }
    }

    /// path: with [`TEXT_ENCODER`]
    fn clip_key(self, path: &str) -> String {
        let inner = &path[TEXT_ENCODER.len()..];
        match self {
            Self::Diffusers => path.to_owned(),
            Self::Kohya => format!("lora_te1_{}", inner.replace('.', "_")),
            Self::ComfyUi => format!("text_encoders.clip_l.transformer.{inner}"),
        }
    }

    /// How the keys of A and B end.
    fn ends(self) -> [&'static str; 2] {
        match self {
            Self::Kohya => ["lora_down.weight", "lora_up.weight"],
            Self::Diffusers | Self::ComfyUi => ["lora_A.weight", "lora_B.weight"],
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|target| target.name() == text);
        found.ok_or_else(|| Error::invalid(format!("format {text:?}: choose diffusers, kohya or comfyui")))
    }
}

impl Adapter {
    /// Writes diffusers' file. The file appears whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomically(path, &self.to_bytes(Target::Diffusers)?)?;
        Ok(())
    }

    /// A file of f32 tensors; `metadata` is added to its header. Each pair's scale is baked into B, so that every reader applies the same
    /// strength. LoHa and LoKr are written as the pairs that they equal; what no pair equals is refused.
    pub fn to_bytes(&self, target: Target) -> Result<Vec<u8>> {
        let mut pairs = BTreeMap::new();
        for (path, delta) in &self.modules {
            let pair = delta.exact_pair()?.map_err(|reason| Error::adapter(&self.name, format!("{path}: {reason}")))?;
            pairs.insert(path.clone(), LoraPair { b: baked(&pair)?, scale: 1.0, ..pair });
        }
        let header = self.header(target, &pairs);
        let mut tensors = Vec::with_capacity(3 * pairs.len());
        for (layer, pair) in target.layers(pairs)? {
            let [down, up] = target.ends();
            tensors.push((format!("{layer}.{down}"), Stored::new(&pair.a)?));
            tensors.push((format!("{layer}.{up}"), Stored::new(&pair.b)?));
            if target == Target::Kohya {
                tensors.push((format!("{layer}.alpha"), Stored::number(pair.rank() as f32)));
            }
        }
        let views = tensors.iter().map(|(key, stored)| Ok((key.as_str(), stored.view()?))).collect::<std::result::Result<Vec<_>, _>>();
        let refuse = |e: safetensors::SafeTensorError| Error::adapter(&self.name, e);
        let bytes = safetensors::serialize(views.map_err(refuse)?, Some(header)).map_err(refuse)?;
        with_sorted_header(&bytes).ok_or_else(|| Error::adapter(&self.name, "its header could not be written"))
    }

    fn header(&self, target: Target, pairs: &BTreeMap<String, LoraPair>) -> HashMap<String, String> {
        let mut header: HashMap<_, _> = self.metadata.clone().into_iter().collect();
        header.insert("format".into(), "pt".into());
        // diffusers refuses a file with alpha in both places, and reads kohya's and ComfyUI's names too.
        header.remove(header::KEY);
        // Of the training; the scale is in B now, and alpha is the rank.
        ["ss_network_dim", "ss_network_alpha"].iter().for_each(|key| drop(header.remove(*key)));
        match target {
            Target::Diffusers => {
                header.insert(header::KEY.into(), header::write(pairs));
            }
            Target::Kohya => header.extend(KOHYA_HEADER.map(|(key, value)| (key.into(), value.into()))),
            Target::ComfyUi => {}
        }
        header
    }
}

/// By which kohya's scripts and other tools know what the file is for.
const KOHYA_HEADER: [(&str, &str); 5] = [
    ("ss_base_model_version", "flux1"),
    ("ss_network_module", "networks.lora_flux"),
    ("modelspec.sai_model_spec", "1.0.1"),
    ("modelspec.architecture", "flux-1-dev/lora"),
    ("modelspec.implementation", "https://github.com/black-forest-labs/flux"),
];

/// The same file with its header's keys in order: safetensors writes metadata out of a hash map, and the same adapter must be the same bytes.
fn with_sorted_header(file: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = file.split_first_chunk()?;
    let (header, data) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let mut header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    if let Some(metadata) = header.get_mut("__metadata__") {
        let sorted: BTreeMap<String, String> = serde_json::from_value(metadata.take()).ok()?;
        *metadata = serde_json::to_value(sorted).ok()?;
    }
    let mut header = serde_json::to_vec(&header).ok()?;
    // Spaces up to a multiple of eight keep the tensors aligned.
    header.resize(header.len().next_multiple_of(8), b' ');
    Some([&(header.len() as u64).to_le_bytes(), header.as_slice(), data].concat())
}

/// scale·B; scale 1 leaves every bit as it is.
fn baked(pair: &LoraPair) -> Result<Tensor> {
    if pair.scale == 1.0 { Ok(pair.b.clone()) } else { Ok((&pair.b * pair.scale)?) }
}

/// A tensor's f32 bytes on the host.
struct Stored {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    /// Of no dimension.
    fn number(value: f32) -> Self {
        Self { shape: Vec::new(), bytes: value.to_le_bytes().to_vec() }
    }

    fn new(tensor: &Tensor) -> Result<Self> {
        let values = tensor.to_device(&Device::Cpu)?.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(Self { shape: tensor.dims().to_vec(), bytes: values.into_iter().flat_map(f32::to_le_bytes).collect() })
    }

    fn view(&self) -> std::result::Result<TensorView<'_>, safetensors::SafeTensorError> {
        TensorView::new(Dtype::F32, self.shape.clone(), &self.bytes)
    }
}

/// Temporary file beside the target, flushed to disk, renamed.
fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".adapter-");
    // The usual rights (less the umask) instead of the owner-only ones of a temporary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    Ok(())
}
