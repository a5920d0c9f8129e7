//! The VAE's distribution for each picture and frame, one safetensors file each.

use crate::buckets::Frame;
use crate::tensor_file::TensorFile;
use crate::{Error, Result};
use engine::vae::Posterior;
use engine::{DType, Device, Tensor};
use std::fs;
use std::path::{Path, PathBuf};

pub struct Latents {
    folder: PathBuf,
    /// Fingerprint of the VAE.
    vae: String,
}

impl Latents {
    pub fn open(folder: &Path, vae: String) -> Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned(), vae })
    }

    /// `None` where there is nothing, or nothing that can be trusted: it is made again.
    pub fn read(&self, sha256: &str, frame: &Frame, device: &Device) -> Option<Posterior> {
        let path = self.path(sha256, frame);
        if !path.exists() {
            return None;
        }
        self.read_file(&path, sha256, frame, device)
            .inspect_err(|error| tracing::warn!("{}: {error}; encoding the picture again", path.display()))
            .ok()
    }

    pub fn write(&self, sha256: &str, frame: &Frame, posterior: &Posterior) -> Result<()> {
        let mut file = TensorFile::default();
        file.about.extend(self.about(sha256, frame));
        for (name, tensor) in [("mean", &posterior.mean), ("logvar", &posterior.logvar)] {
            file.put(name, tensor.dims(), tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?);
        }
        file.write(&self.path(sha256, frame))
    }

    /// (image hash, frame) of every whole file for this VAE.
    pub fn list(&self) -> Result<Vec<(String, String)>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let Ok(file) = TensorFile::read(&entry?.path()) else { continue };
            if let (Some(image), Some(frame), true) =
                (file.about.get("image"), file.about.get("frame"), file.about.get("vae") == Some(&self.vae))
            {
                entries.push((image.clone(), frame.clone()));
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn read_file(&self, path: &Path, sha256: &str, frame: &Frame, device: &Device) -> Result<Posterior> {
        let file = TensorFile::read(path)?;
        if file.about != self.about(sha256, frame).into() {
            return Err(Error::State("it is about another picture".into()));
        }
        let shape = [1, 16, frame.size.height() / 8, frame.size.width() / 8];
        if file.shape("mean")? != shape || file.shape("logvar")? != shape {
            return Err(Error::State("it has another shape".into()));
        }
        let tensor = |name| Ok::<_, Error>(Tensor::from_slice(file.floats(name, shape.iter().product())?, &shape, device)?);
        Ok(Posterior { mean: tensor("mean")?, logvar: tensor("logvar")? })
    }

    fn about(&self, sha256: &str, frame: &Frame) -> [(String, String); 3] {
        [("image".into(), sha256.into()), ("frame".into(), frame.to_string()), ("vae".into(), self.vae.clone())]
    }

    fn path(&self, sha256: &str, frame: &Frame) -> PathBuf {
        self.folder.join(format!("{}-{frame}-{}.safetensors", &sha256[..32], &self.vae[..8]))
    }
}
