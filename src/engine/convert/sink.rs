//! The file that a part is written to, from its head on: where every tensor will be is known before the first is made.

use super::{
    Form, Parameter,
    encode::{self, Kind, Slot},
    gguf, pipeline,
};
use crate::{Error, Model, Result};
use serde_json::{Map, Value, json};
use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

pub struct Sink {
    /// The part's folder, or the file itself.
    out: PathBuf,
    path: PathBuf,
    file: BufWriter<tempfile::NamedTempFile>,
    form: Form,
    /// Spaces between tensors.
    alignment: usize,
}

impl Sink {
    pub fn create(out: &Path, part: &str, form: Form, parameters: &[Parameter]) -> Result<Self> {
        let path = if form.is_file() { out.to_owned() } else { out.join(pipeline::weights(part)) };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".atelier-");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less the umask, as any new file
        let mut file = BufWriter::new(builder.tempfile_in(folder)?);
        let slots: Vec<Slot> = parameters.iter().flat_map(|parameter| encode::slots(form, parameter)).collect();
        let (head, alignment) = match form {
            Form::Gguf(_) => (gguf::head(&slots, form), gguf::ALIGNMENT),
            _ => (safetensors_head(&slots, form), 1),
        };
        file.write_all(&head)?;
        Ok(Self { out: out.to_owned(), path, file, form, alignment })
    }

    /// The bytes of the parameter's slots.
    pub fn write(&mut self, parameter: &Parameter, tensors: Vec<Vec<u8>>) -> Result<()> {
        for (slot, bytes) in encode::slots(self.form, parameter).iter().zip(tensors) {
            if bytes.len() != slot.bytes() {
                return Err(Error::model(
                    &self.path,
                    format!("{} has {} bytes where {} were expected", slot.key, bytes.len(), slot.bytes()),
                ));
            }
            self.file.write_all(&bytes)?;
            self.file.write_all(&vec![0; bytes.len().next_multiple_of(self.alignment) - bytes.len()])?;
        }
        Ok(())
    }

    /// Gives the file its name, and its folder the configuration.
    pub fn finish(mut self, model: &Model, part: &str, form: Form) -> Result<()> {
        if form == Form::Fp8 {
            // The marker by which ComfyUI knows scaled fp8; its head has announced it.
            self.file.write_all(&[0; 2])?;
        }
        let file = self.file.into_inner().map_err(|error| error.into_error())?;
        file.as_file().sync_all()?;
        let finished: File = file.persist(&self.path).map_err(|error| error.error)?;
        drop(finished);
        if form.is_file() { Ok(()) } else { pipeline::write_config(model, part, form, &self.out) }
    }
}

fn safetensors_head(slots: &[Slot], form: Form) -> Vec<u8> {
    let mut head = Map::new();
    head.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut start = 0;
    let marker = (form == Form::Fp8).then(|| Slot { key: "scaled_fp8".into(), kind: Kind::E4m3, shape: vec![2] });
    for slot in slots.iter().chain(&marker) {
        let end = start + slot.bytes();
        head.insert(slot.key.clone(), json!({"dtype": dtype(slot.kind), "shape": slot.shape, "data_offsets": [start, end]}));
        start = end;
    }
    let mut head = Value::Object(head).to_string().into_bytes();
    // Spaces up to a multiple of eight keep the tensors aligned.
    head.resize(head.len().next_multiple_of(8), b' ');
    [(head.len() as u64).to_le_bytes().as_slice(), &head].concat()
}

fn dtype(kind: Kind) -> &'static str {
    match kind {
        Kind::F32 => "F32",
        Kind::Bf16 => "BF16",
        Kind::U8 => "U8",
        Kind::I8 => "I8",
        Kind::E4m3 => "F8_E4M3",
        Kind::Blocks(_) => unreachable!("blocks are GGUF's"),
    }
}
