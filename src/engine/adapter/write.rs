//! Writing `pytorch_lora_weights.safetensors` as `FluxPipeline.load_lora_weights` reads it.

use super::{Adapter, LoraPair, TEXT_ENCODER, TRANSFORMER, header};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use safetensors::{Dtype, tensor::TensorView};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::Write,
    path::Path,
};

impl Adapter {
    /// Writes f32 tensors, a PEFT header and no alpha tensors; `metadata` is added to the header.
    /// Each pair's scale is baked into B, so that every reader applies the same strength.
    /// The file appears whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomically(path, &self.to_bytes()?)?;
        Ok(())
    }

    /// The file that [`Self::save`] writes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut tensors = Vec::with_capacity(2 * self.modules.len());
        for (module, pair) in &self.modules {
            let prefix = if module.starts_with(TEXT_ENCODER) { "" } else { TRANSFORMER };
            tensors.push((format!("{prefix}{module}.lora_A.weight"), Stored::new(&pair.a)?));
            tensors.push((format!("{prefix}{module}.lora_B.weight"), Stored::new(&baked(pair)?)?));
        }
        let views = tensors.iter().map(|(key, stored)| Ok((key.as_str(), stored.view()?))).collect::<std::result::Result<Vec<_>, _>>();
        let refuse = |e: safetensors::SafeTensorError| Error::adapter(&self.name, e);
        let bytes = safetensors::serialize(views.map_err(refuse)?, Some(self.header())).map_err(refuse)?;
        with_sorted_header(&bytes).ok_or_else(|| Error::adapter(&self.name, "its header could not be written"))
    }

    fn header(&self) -> HashMap<String, String> {
        let mut header: HashMap<_, _> = self.metadata.clone().into_iter().collect();
        header.insert("format".into(), "pt".into());
        header.insert(header::KEY.into(), header::write(&self.modules));
        header
    }
}

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
