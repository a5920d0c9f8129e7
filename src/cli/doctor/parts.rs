//! The parts of a model folder, read from the headers of their safetensors files: sizes, types, what is missing.

use serde::Serialize;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Read,
    path::Path,
};

const WEIGHTS: [&str; 4] = ["text_encoder", "text_encoder_2", "transformer", "vae"];
const OTHERS: [(&str, &str); 4] = [
    ("model_index.json", "model_index.json"),
    ("scheduler", "scheduler/scheduler_config.json"),
    ("tokenizer", "tokenizer/vocab.json"),
    ("tokenizer_2", "tokenizer_2/tokenizer.json"),
];

#[derive(Debug, Default, Serialize)]
pub struct Part {
    pub name: String,
    pub files: usize,
    pub bytes: u64,
    pub parameters: u64,
    pub dtypes: BTreeSet<String>,
}

impl Part {
    pub fn describe(&self) -> String {
        let types: Vec<_> = self.dtypes.iter().map(String::as_str).collect();
        let (millions, mib) = (self.parameters as f64 / 1e6, self.bytes as f64 / (1 << 20) as f64);
        format!("{:<15} {millions:>9.2} M parameters, {mib:>9.1} MiB, {}", self.name, types.join(" and "))
    }
}

/// Every part with weights; `Err` says what is missing or damaged.
pub fn all(model: &Path) -> Vec<Result<Part, String>> {
    let absent = OTHERS.iter().filter(|(_, file)| !model.join(file).is_file());
    let absent = absent.map(|(name, file)| Err(format!("{name}: {file} is missing")));
    WEIGHTS.iter().map(|name| read(model, name)).chain(absent).collect()
}

fn read(model: &Path, name: &str) -> Result<Part, String> {
    let folder = model.join(name);
    if !folder.join("config.json").is_file() {
        return Err(format!("{name}: {name}/config.json is missing"));
    }
    let entries = fs::read_dir(&folder).map_err(|e| format!("{name}: {e}"))?;
    let files = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.extension().is_some_and(|e| e == "safetensors"));
    let mut part = Part { name: name.to_owned(), ..Part::default() };
    for path in files {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        part.add(&path).map_err(|problem| format!("{name}: {file} {problem}"))?;
    }
    if part.files == 0 { Err(format!("{name}: no .safetensors file")) } else { Ok(part) }
}

impl Part {
    /// https://github.com/huggingface/safetensors#format: length of the header, header as JSON, bytes.
    fn add(&mut self, path: &Path) -> Result<(), String> {
        const MOST: u64 = 100 << 20;
        let damaged = |_| "is truncated or no safetensors file".to_owned();
        let length = fs::metadata(path).map_err(|e| e.to_string())?.len();
        let mut file = File::open(path).map_err(|e| e.to_string())?;
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix).map_err(|e| damaged(e.to_string()))?;
        let header_length = u64::from_le_bytes(prefix);
        if header_length > MOST.min(length) {
            return Err(damaged(String::new()));
        }
        let mut header = Vec::new();
        file.take(header_length).read_to_end(&mut header).map_err(|e| damaged(e.to_string()))?;
        let header: Value = serde_json::from_slice(&header).map_err(|e| damaged(e.to_string()))?;
        let mut end = 0;
        for (_, tensor) in header.as_object().into_iter().flatten().filter(|(key, _)| *key != "__metadata__") {
            let sides = tensor["shape"].as_array().into_iter().flatten().filter_map(Value::as_u64);
            self.parameters += sides.product::<u64>();
            self.dtypes.insert(tensor["dtype"].as_str().unwrap_or("unknown").to_lowercase());
            end = end.max(tensor["data_offsets"][1].as_u64().unwrap_or(0));
        }
        if length != 8 + header_length + end {
            return Err(format!("has {length} bytes instead of {}", 8 + header_length + end));
        }
        self.files += 1;
        self.bytes += length;
        Ok(())
    }
}
