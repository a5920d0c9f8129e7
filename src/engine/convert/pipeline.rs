//! What makes a folder of quantised parts a model: configurations, and the parts that stay as they are.

use super::Form;
use crate::{
    Error, Model, Result,
    checkpoint::contents::{self, PARTS},
};
use candle_core::Device;
use serde_json::{Value, json};
use std::{fs, path::Path};

/// The names that diffusers and transformers look for.
pub fn weights(part: &str) -> &'static str {
    match part {
        contents::TRANSFORMER | contents::VAE => "diffusion_pytorch_model.safetensors",
        _ => "model.safetensors",
    }
}

/// config.json of a part, with how its weights are held.
pub fn write_config(model: &Model, part: &str, form: Form, folder: &Path) -> Result<()> {
    let mut config: Value = model.config(part)?;
    let fields = config.as_object_mut().ok_or_else(|| Error::model(folder, "the configuration of this part is no object"))?;
    fields.remove("quantization_config");
    let quantisation = match form {
        Form::Nf4 => Some(json!({
            "quant_method": "bitsandbytes", "load_in_4bit": true, "load_in_8bit": false, "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": true, "bnb_4bit_compute_dtype": "bfloat16", "bnb_4bit_quant_storage": "uint8",
        })),
        Form::Int8 => Some(json!({
            "quant_method": "bitsandbytes", "load_in_8bit": true, "load_in_4bit": false, "llm_int8_threshold": 6.0,
        })),
        _ => None,
    };
    fields.extend(quantisation.map(|quantisation| ("quantization_config".to_owned(), quantisation)));
    let (class, key) = class(part);
    fields.entry(key).or_insert(if key == "architectures" { json!([class]) } else { json!(class) });
    if part == contents::T5 {
        fields.entry("model_type").or_insert(json!("t5"));
    }
    Ok(fs::write(folder.join("config.json"), pretty(&config)?)?)
}

fn class(part: &str) -> (&'static str, &'static str) {
    match part {
        contents::TRANSFORMER => ("FluxTransformer2DModel", "_class_name"),
        contents::VAE => ("AutoencoderKL", "_class_name"),
        contents::CLIP => ("CLIPTextModel", "architectures"),
        _ => ("T5EncoderModel", "architectures"),
    }
}

/// Copies what was not `written`: a part's folder, or, where it has none, its file.
pub fn rest(model: &Model, out: &Path, written: &[&str]) -> Result<()> {
    for part in PARTS.into_iter().filter(|part| !written.contains(part)) {
        let checkpoint = model.part(part, &Device::Cpu)?;
        match checkpoint.folder() {
            Some(folder) => copy(folder, &out.join(part))?,
            None => checkpoint.files().iter().try_for_each(|file| copy_file(file, &out.join(file.file_name().unwrap_or_default())))?,
        }
    }
    for name in ["tokenizer", "tokenizer_2"] {
        if let Some(folder) = model.tokenizer(name) {
            copy(&folder, &out.join(name))?;
        }
    }
    let scheduler = out.join("scheduler");
    fs::create_dir_all(&scheduler)?;
    let mut config = serde_json::to_value(crate::scheduler::Scheduler::load(model)?).map_err(|e| Error::model(&scheduler, e))?;
    config["_class_name"] = json!("FlowMatchEulerDiscreteScheduler");
    fs::write(scheduler.join("scheduler_config.json"), pretty(&config)?)?;
    // Where a part is still a file, the folder is no pipeline of diffusers', and Atelier finds its parts by their content.
    if PARTS.into_iter().all(|part| out.join(part).is_dir()) {
        fs::write(out.join("model_index.json"), pretty(&index())?)?;
    }
    Ok(())
}

fn pretty(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|error| Error::invalid(error.to_string()))
}

fn index() -> Value {
    json!({
        "_class_name": "FluxPipeline", "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"], "text_encoder_2": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "tokenizer_2": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", "FluxTransformer2DModel"], "vae": ["diffusers", "AutoencoderKL"],
    })
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            copy_file(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).map_err(|e| Error::model(from, format!("cannot be copied: {e}")))
}
