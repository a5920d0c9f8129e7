//! A model put together from files: each part where its content was found, in the file that was given, in those chosen, or beside it.

use super::{
    Checkpoint,
    contents::{self, CLIP, Found, PARTS, T5, TRANSFORMER, VAE, in_words},
    file::TensorFile,
    read_json,
};
use crate::{
    Error, Result,
    text_encoder::{ClipConfig, T5Config},
};
use candle_core::Device;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Parts of a model.
#[derive(Clone, Debug)]
pub struct Assembly {
    /// Of the file with the transformer.
    pub name: String,
    parts: BTreeMap<&'static str, Place>,
    /// The folder with `tokenizer` and `tokenizer_2`.
    pub tokenizers: PathBuf,
    /// The model's own folder, if it has `scheduler` in it.
    scheduler: Option<PathBuf>,
}

#[derive(Clone, Debug)]
enum Place {
    File(PathBuf, Found),
    /// A part's folder below this one, in diffusers layout.
    Folder(PathBuf),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::File(path, _) | Self::Folder(path) => path,
        }
    }
}

/// Files that were chosen for parts, and the folder of a model in diffusers layout that has what no file does.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    pub clip: Option<PathBuf>,
    pub t5: Option<PathBuf>,
    pub vae: Option<PathBuf>,
    pub base: Option<PathBuf>,
}

impl Chosen {
    pub fn is_empty(&self) -> bool {
        [&self.clip, &self.t5, &self.vae, &self.base].into_iter().all(Option::is_none)
    }
}

impl Assembly {
    /// path: a file with a transformer, or a folder of files or in diffusers layout.
    pub fn find(path: &Path, chosen: &Chosen) -> Result<Self> {
        let mut parts = BTreeMap::new();
        for (part, file) in [(CLIP, &chosen.clip), (T5, &chosen.t5), (VAE, &chosen.vae)] {
            if let Some(file) = file {
                parts.insert(part, chosen_part(file, part)?);
            }
        }
        let folder =
            if path.is_dir() { path } else { path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")) };
        if path.is_file() {
            let found = recognised(path)?;
            if !found.contains_key(TRANSFORMER) {
                return Err(Error::model(path, format!("{} is in it, but no transformer; give it with {}", list(&found), flags(&found))));
            }
            for (part, found) in found {
                parts.entry(part).or_insert_with(|| Place::File(path.to_owned(), found));
            }
        }
        if folder.join("model_index.json").is_file() && path.is_dir() {
            super::model::check_model_folder(folder)?;
        }
        folders(folder, &PARTS, &mut parts);
        let unreadable = beside(path, folder, &mut parts)?;
        if let Some(base) = &chosen.base {
            folders(base, &[CLIP, T5, VAE], &mut parts);
        }
        if let Some(missing) = PARTS.into_iter().find(|part| !parts.contains_key(part)) {
            return Err(Error::model(path, format!("{}{}", missing_part(missing), among(&unreadable))));
        }
        let has_words = |folder: &&Path| folder.join("tokenizer").is_dir() && folder.join("tokenizer_2").is_dir();
        let rest = || std::iter::once(folder).chain(chosen.base.as_deref());
        let tokenizers = rest().find(has_words).ok_or_else(|| {
            Error::model(path, "the tokenizers of CLIP and T5 are missing: put the folders tokenizer and tokenizer_2 of FLUX.1 beside the file, or give --base DIR, a FLUX.1 folder in diffusers layout")
        })?;
        // Not the base's: FLUX.1-schnell beside FLUX.1-dev's encoders still has steps that are not shifted.
        let scheduler = Some(folder).filter(|folder| folder.join("scheduler").is_dir()).map(Path::to_owned);
        let name = path.file_stem().filter(|_| path.is_file()).or_else(|| folder.file_name()).unwrap_or(path.as_os_str());
        let whole = Self { name: name.to_string_lossy().into_owned(), parts, tokenizers: tokenizers.to_owned(), scheduler };
        whole.check_widths()?;
        Ok(whole)
    }

    /// That the encoders are this transformer's: CLIP-G has CLIP-L's keys.
    fn check_widths(&self) -> Result<()> {
        let transformer: crate::transformer::Config = self.config(TRANSFORMER)?;
        let clip = self.config::<ClipConfig>(CLIP)?.hidden_size;
        let t5 = self.config::<T5Config>(T5)?.d_model;
        for (part, has, wanted) in [(CLIP, clip, transformer.pooled_projection_dim), (T5, t5, transformer.joint_attention_dim)] {
            if has != wanted {
                let problem = format!(
                    "{} is {has} wide in {}, but the transformer reads {wanted}; choose another with {}",
                    in_words(part),
                    self.place(part)?.0.path().display(),
                    flag(part)
                );
                return Err(Error::model(&self.name, problem));
            }
        }
        Ok(())
    }

    pub fn part(&self, part: &str, device: &Device) -> Result<Checkpoint> {
        match self.place(part)? {
            (Place::File(path, found), part) => Checkpoint::open_file(path, part, found, device),
            (Place::Folder(folder), part) => Checkpoint::open(folder, part, device),
        }
    }

    pub fn config<T: DeserializeOwned>(&self, part: &str) -> Result<T> {
        if part == "scheduler" {
            return self.scheduler();
        }
        match self.place(part)? {
            (Place::Folder(folder), part) => read_json(&folder.join(part).join("config.json")),
            (Place::File(..), part) => self.part(part, &Device::Cpu)?.config(),
        }
    }

    fn place(&self, part: &str) -> Result<(&Place, &'static str)> {
        let found = self.parts.get_key_value(part).map(|(part, place)| (place, *part));
        found.ok_or_else(|| Error::model(&self.name, format!("it has no part {part}")))
    }

    /// A folder's own; else FLUX.1-dev's, whose steps are shifted by the size of the picture, or, without guidance, FLUX.1-schnell's, whose
    /// are not.
    fn scheduler<T: DeserializeOwned>(&self) -> Result<T> {
        if let Some(folder) = &self.scheduler {
            return read_json(&folder.join("scheduler").join("scheduler_config.json"));
        }
        let transformer: crate::transformer::Config = self.config(TRANSFORMER)?;
        let dev = transformer.guidance_embeds;
        let config = json!({
            "num_train_timesteps": 1000, "shift": if dev { 3.0 } else { 1.0 }, "use_dynamic_shifting": dev,
            "base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096,
        });
        serde_json::from_value(config).map_err(|e| Error::model(&self.name, e))
    }
}

/// The parts in a file, or what it is instead.
pub fn recognised(path: &Path) -> Result<BTreeMap<&'static str, Found>> {
    let file = TensorFile::open(path)?;
    let parts = contents::parts(&file);
    if parts.is_empty() { Err(Error::model(path, contents::what_else(&file))) } else { Ok(parts) }
}

fn chosen_part(file: &Path, part: &'static str) -> Result<Place> {
    let mut found = recognised(file)?;
    match found.remove(part) {
        Some(found) => Ok(Place::File(file.to_owned(), found)),
        None => Err(Error::model(file, format!("{} is expected here, but {} is in it", in_words(part), list(&found)))),
    }
}

/// Parts in diffusers layout below a folder, where they are still missing.
fn folders(folder: &Path, wanted: &[&'static str], parts: &mut BTreeMap<&'static str, Place>) {
    for part in wanted.iter().filter(|part| folder.join(part).join("config.json").is_file()) {
        parts.entry(part).or_insert_with(|| Place::Folder(folder.to_owned()));
    }
}

/// Looks for what is missing in the files beside, by their content. Of two that have the same part, a person must choose. Returns what was
/// wrong with those that could not be read.
fn beside(path: &Path, folder: &Path, parts: &mut BTreeMap<&'static str, Place>) -> Result<Vec<Error>> {
    let missing: Vec<&'static str> = PARTS.into_iter().filter(|part| !parts.contains_key(part)).collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file != path && file.is_file() && file.extension().is_some_and(|end| end == "safetensors" || end == "gguf"));
    files.sort();
    let (mut found, mut unreadable) = (BTreeMap::<&str, Vec<(PathBuf, Found)>>::new(), Vec::new());
    for path in files {
        match TensorFile::open(&path) {
            Ok(file) => {
                contents::parts(&file).into_iter().for_each(|(part, place)| found.entry(part).or_default().push((path.clone(), place)))
            }
            // Another file's damage is nobody's concern unless a part is missing.
            Err(error) => unreadable.push(error),
        }
    }
    for part in missing {
        match found.remove(part).unwrap_or_default().as_slice() {
            [] => {}
            [(file, place)] => drop(parts.insert(part, Place::File(file.clone(), place.clone()))),
            [(one, _), (other, _), ..] => {
                return Err(Error::model(
                    path,
                    format!("both {} and {} hold {}; choose one with {}", one.display(), other.display(), in_words(part), flag(part)),
                ));
            }
        }
    }
    Ok(unreadable)
}

/// What could not be read among the files that were looked through.
fn among(unreadable: &[Error]) -> String {
    unreadable.iter().map(|error| format!("; one beside it cannot be read: {error}")).collect()
}

fn missing_part(part: &str) -> String {
    if part == TRANSFORMER {
        return "not a FLUX.1 model: it has no model_index.json, as a folder in diffusers layout has, and no file in it has a transformer"
            .into();
    }
    format!(
        "{} is missing: put its file beside this one, or give {} FILE, or --base DIR, a FLUX.1 folder in diffusers layout",
        in_words(part),
        flag(part)
    )
}

fn flag(part: &str) -> &'static str {
    match part {
        CLIP => "--clip",
        T5 => "--t5",
        VAE => "--vae",
        _ => "--model",
    }
}

fn flags(found: &BTreeMap<&'static str, Found>) -> String {
    found.keys().map(|part| flag(part)).collect::<Vec<_>>().join(", ")
}

fn list(found: &BTreeMap<&'static str, Found>) -> String {
    found.keys().map(|part| in_words(part)).collect::<Vec<_>>().join(" and ")
}
