//! Reading a diffusers/PEFT LoRA file as `FluxPipeline.load_lora_weights` does.
//!
//! diffusers `loaders/lora_pipeline.py` (`lora_state_dict`), `loaders/peft.py`, `utils/peft_utils.py` (`get_peft_kwargs`).

use super::{
    Adapter, LoraPair, TEXT_ENCODER, TRANSFORMER,
    header::{self, PeftConfig},
};
use crate::Error;
use candle_core::{DType, Device, Tensor};
use safetensors::{SafeTensors, tensor::TensorView};
use std::{collections::BTreeMap, path::Path};

/// A key that shows another way of writing adapters, and that way's name.
const OTHER_FORMATS: [(&str, &str); 10] = [
    ("dora_scale", "DoRA"),
    ("lora_magnitude_vector", "DoRA"),
    ("lokr_", "LoKr"),
    ("hada_", "LoHa"),
    ("lora_unet_", "kohya"),
    (".lora_down.", "kohya"),
    (".processor.", "XLabs"),
    ("diffusion_model.", "ComfyUI"),
    ("base_model.", "raw PEFT"),
    ("query_norm.scale", "BFL control"),
];

impl Adapter {
    /// Reads a diffusers/PEFT safetensors file; rank and alpha from tensors or header as `load_lora_weights` does.
    pub fn load(path: &Path, device: &Device) -> crate::Result<Self> {
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
        let bytes = std::fs::read(path).map_err(|e| Error::adapter(path.to_string_lossy(), format!("cannot be read: {e}")))?;
        Self::from_bytes(&name, &bytes, device)
    }

    /// Reads the same from bytes; `name` is used in errors.
    pub fn from_bytes(name: &str, bytes: &[u8], device: &Device) -> crate::Result<Self> {
        let refuse = |problem: String| Error::adapter(name, problem);
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| refuse(not_safetensors(&e)))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| refuse(not_safetensors(&e)))?;
        let metadata: BTreeMap<String, String> = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let halves = Halves::gather(&tensors, device).map_err(refuse)?;
        let scales = Scales::new(metadata.get(header::KEY), &halves.alphas).map_err(refuse)?;
        let modules = halves.pairs(&scales).map_err(refuse)?;
        Ok(Self { name: name.to_owned(), modules, metadata })
    }
}

fn not_safetensors(error: &safetensors::SafeTensorError) -> String {
    format!("truncated or not a safetensors file ({error})")
}

/// What a file holds for each module before A and B are put together.
#[derive(Default)]
struct Halves {
    a: BTreeMap<String, Tensor>,
    b: BTreeMap<String, Tensor>,
    alphas: BTreeMap<String, f64>,
}

impl Halves {
    fn gather(tensors: &SafeTensors, device: &Device) -> Result<Self, String> {
        let mut halves = Self::default();
        for (key, view) in tensors.iter() {
            halves.insert(key, &view, device)?;
        }
        if halves.a.is_empty() && halves.b.is_empty() {
            return Err("it has no transformer.….lora_A.weight keys: this is not a LoRA file as diffusers writes it".into());
        }
        Ok(halves)
    }

    fn insert(&mut self, key: &str, view: &TensorView, device: &Device) -> Result<(), String> {
        if let Some((_, format)) = OTHER_FORMATS.iter().find(|(sign, _)| key.contains(sign)) {
            return Err(format!(
                "it is written the {format} way (key {key}); files as diffusers writes them are read (transformer.….lora_A.weight)"
            ));
        }
        let path = match key.strip_prefix(TRANSFORMER) {
            Some(path) => path,
            None if key.starts_with(TEXT_ENCODER) => key,
            None => return Err(format!("key {key} begins with neither {TRANSFORMER} nor {TEXT_ENCODER}")),
        };
        // diffusers takes every key with these letters for an alpha.
        if key.contains("alpha") {
            self.alphas.insert(path.replace(".alpha", ""), alpha(key, view)?);
        } else if let Some(module) = path.strip_suffix(".lora_A.weight") {
            self.a.insert(module.to_owned(), matrix(key, view, device)?);
        } else if let Some(module) = path.strip_suffix(".lora_B.weight") {
            self.b.insert(module.to_owned(), matrix(key, view, device)?);
        } else {
            return Err(format!("key {key} is not a lora_A or lora_B weight"));
        }
        Ok(())
    }

    /// Joins A with B; each needs the other, with the same rank.
    fn pairs(mut self, scales: &Scales) -> Result<BTreeMap<String, LoraPair>, String> {
        let mut modules = BTreeMap::new();
        for (module, a) in self.a {
            let b = self.b.remove(&module).ok_or_else(|| format!("{module} has a lora_A but no lora_B"))?;
            let (rank, rank_b) = (a.dims()[0], b.dims()[1]);
            if rank != rank_b || rank == 0 {
                return Err(format!("{module}: lora_A {:?} and lora_B {:?} have no common rank", a.dims(), b.dims()));
            }
            let scale = scales.of(&module, rank)?;
            modules.insert(module, LoraPair { a, b, scale });
        }
        match self.b.keys().next() {
            Some(module) => Err(format!("{module} has a lora_B but no lora_A")),
            None => Ok(modules),
        }
    }
}

/// Where the scale of a module comes from.
enum Scales {
    /// The file says nothing: alpha is the rank.
    One,
    /// `.alpha` tensors; diffusers gives modules without one the most common value.
    Tensors {
        own: BTreeMap<String, f64>,
        others: f64,
    },
    Header {
        transformer: Option<PeftConfig>,
        text_encoder: Option<PeftConfig>,
    },
}

impl Scales {
    fn new(header: Option<&String>, alphas: &BTreeMap<String, f64>) -> Result<Self, String> {
        let parsed = |component| header.map_or(Ok(None), |header| PeftConfig::parse(header, component));
        match (parsed(TRANSFORMER)?, parsed(TEXT_ENCODER)?) {
            (None, None) if alphas.is_empty() => Ok(Self::One),
            (None, None) => Ok(Self::Tensors { own: alphas.clone(), others: most_common(alphas) }),
            (transformer, text_encoder) if alphas.is_empty() => Ok(Self::Header { transformer, text_encoder }),
            _ => Err("alpha is given twice, in tensors and in the header; diffusers refuses such a file too".into()),
        }
    }

    fn of(&self, module: &str, rank: usize) -> Result<f64, String> {
        let scale = match self {
            Self::One => 1.0,
            Self::Tensors { own, others } => own.get(module).unwrap_or(others) / rank as f64,
            Self::Header { transformer, text_encoder } => {
                let (config, path) = match module.strip_prefix(TEXT_ENCODER) {
                    Some(path) => (text_encoder, path),
                    None => (transformer, module),
                };
                config.as_ref().map_or(Ok(1.0), |config| config.scale(path, rank))?
            }
        };
        if scale.is_finite() { Ok(scale) } else { Err(format!("{module}: its alpha is not a finite number")) }
    }
}

/// The alpha that occurs most often.
fn most_common(alphas: &BTreeMap<String, f64>) -> f64 {
    let count = |alpha: f64| alphas.values().filter(|&&other| other == alpha).count();
    alphas.values().copied().max_by_key(|&alpha| count(alpha)).unwrap_or(1.0)
}

fn alpha(key: &str, view: &TensorView) -> Result<f64, String> {
    let values = numbers(key, view, &Device::Cpu)?.flatten_all().and_then(|t| t.to_vec1::<f32>());
    match values.map_err(|e| format!("{key}: {e}"))?[..] {
        [alpha] => Ok(f64::from(alpha)),
        _ => Err(format!("{key} {:?} must be a single number", view.shape())),
    }
}

/// A 2-d tensor of finite numbers, in f32.
fn matrix(key: &str, view: &TensorView, device: &Device) -> Result<Tensor, String> {
    if view.shape().len() != 2 {
        return Err(format!("{key} has shape {:?}, but a matrix is needed", view.shape()));
    }
    numbers(key, view, device)
}

fn numbers(key: &str, view: &TensorView, device: &Device) -> Result<Tensor, String> {
    let dtype = match view.dtype() {
        safetensors::Dtype::BF16 => DType::BF16,
        safetensors::Dtype::F16 => DType::F16,
        safetensors::Dtype::F32 => DType::F32,
        other => return Err(format!("{key} is stored as {other}; bf16, f16 and f32 are read")),
    };
    let read = || -> candle_core::Result<(Tensor, f32)> {
        let tensor = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), device)?.to_dtype(DType::F32)?;
        // x·0 is 0 for every finite x and NaN for the others.
        let poison = (&tensor * 0.0)?.sum_all()?.to_scalar()?;
        Ok((tensor, poison))
    };
    match read().map_err(|e| format!("{key}: {e}"))? {
        (tensor, poison) if poison == 0.0 => Ok(tensor),
        _ => Err(format!("{key} holds NaN or infinity; the training that made it went wrong")),
    }
}
