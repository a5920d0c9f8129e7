//! Where the parts of a model come from.

use super::{Assembly, Checkpoint, Chosen, read_json};
use crate::{Error, Result, synthetic::Synthetic};
use candle_core::Device;
use serde::{Deserialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub enum Model {
    /// A FLUX.1 folder in diffusers layout.
    Folder(PathBuf),
    /// Parts from several places: files as BFL, ComfyUI and GGUF have them.
    Assembly(Assembly),
    Synthetic(Synthetic),
}

impl Model {
    /// A folder in diffusers layout, or a file or folder of files with what belongs to it beside it or chosen.
    pub fn open(path: &Path, chosen: &Chosen) -> Result<Self> {
        let is_pipeline = path.is_dir() && path.join("model_index.json").is_file();
        if is_pipeline && chosen.is_empty() {
            return Ok(Self::Folder(path.to_owned()));
        }
        if !path.exists() {
            return Err(no_such(path));
        }
        Ok(Self::Assembly(Assembly::find(path, chosen)?))
    }

    /// The folder's or file's name, such as `flux-mini`.
    pub fn name(&self) -> String {
        match self {
            Self::Folder(folder) => {
                let absolute = folder.canonicalize().unwrap_or_else(|_| folder.clone());
                absolute.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
            }
            Self::Assembly(assembly) => assembly.name.clone(),
            Self::Synthetic(synthetic) => format!("synthetic {synthetic}"),
        }
    }

    /// Refuses a folder that is not a FLUX.1 pipeline in diffusers layout.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Folder(folder) => check_model_folder(folder),
            // What is not there was missed when it was put together.
            Self::Assembly(_) | Self::Synthetic(_) => Ok(()),
        }
    }

    /// `config.json` of a part, without its weights.
    pub fn config<T: DeserializeOwned>(&self, part: &str) -> Result<T> {
        match self {
            Self::Folder(folder) => read_json(&folder.join(part).join("config.json")),
            Self::Assembly(assembly) => assembly.config(part),
            Self::Synthetic(synthetic) => Ok(synthetic.config(part)),
        }
    }

    /// The weights of a part: `transformer`, `vae`, …
    pub fn part(&self, part: &str, device: &Device) -> Result<Checkpoint> {
        match self {
            Self::Folder(folder) => Checkpoint::open(folder, part, device),
            Self::Assembly(assembly) => assembly.part(part, device),
            Self::Synthetic(synthetic) => Ok(Checkpoint::synthetic(*synthetic, part, device)),
        }
    }

    /// The folder of a tokenizer; none for a synthetic model, which has learnt no words.
    pub fn tokenizer(&self, name: &str) -> Option<PathBuf> {
        match self {
            Self::Folder(folder) => Some(folder.join(name)),
            Self::Assembly(assembly) => Some(assembly.tokenizers.join(name)),
            Self::Synthetic(_) => None,
        }
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Model {
    fn from(folder: &P) -> Self {
        Self::Folder(folder.as_ref().to_owned())
    }
}

fn no_such(path: &Path) -> Error {
    Error::model(
        path,
        "no such folder; give the folder of a FLUX.1 model in diffusers layout, such as models/flux-mini, or a file of its transformer",
    )
}

pub(super) fn check_model_folder(model: &Path) -> Result<()> {
    #[derive(Deserialize)]
    struct Index {
        _class_name: String,
    }
    if !model.is_dir() {
        return Err(no_such(model));
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
