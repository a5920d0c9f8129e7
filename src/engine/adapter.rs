//! LoRA adapters: read, written, and mounted on a transformer without touching its weights.

use crate::{Error, Result, linear::LinearId, transformer::Transformer};
use candle_core::{Device, Tensor};
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// ΔW = scale · B·A for one linear layer.
#[derive(Clone, Debug)]
pub struct LoraPair {
    /// [r, in], f32
    pub a: Tensor,
    /// [out, r], f32
    pub b: Tensor,
    /// alpha / r (alpha / √r for rsLoRA), times the strength that the request gives.
    pub scale: f64,
}

/// An adapter file in memory: pairs by module path of the diffusers transformer, such as `transformer_blocks.0.attn.to_q`.
#[derive(Clone, Debug)]
pub struct Adapter {
    pub name: String,
    pub modules: BTreeMap<String, LoraPair>,
    /// The safetensors header's own metadata.
    pub metadata: BTreeMap<String, String>,
}

/// Which keys of an adapter found their layer in this model.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    pub matched: Vec<String>,
    /// Module path and reason.
    pub unmatched: Vec<(String, String)>,
}

/// The pairs of all mounted adapters, by layer; empty is the base model.
#[derive(Clone, Debug, Default)]
pub struct AdapterSet {
    pairs: Vec<Vec<LoraPair>>,
}

impl Adapter {
    /// Reads a diffusers/PEFT safetensors file; rank and alpha from tensors or header as `load_lora_weights` does.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        todo!()
    }

    /// Reads the same from bytes; `name` is used in errors.
    pub fn from_bytes(name: &str, bytes: &[u8], device: &Device) -> Result<Self> {
        todo!()
    }

    /// Writes `pytorch_lora_weights.safetensors` as `FluxPipeline.load_lora_weights` reads it (f32, PEFT header, no alpha tensors; `metadata` is added to the header).
    pub fn save(&self, path: &Path) -> Result<()> {
        todo!()
    }
}

impl AdapterSet {
    pub fn base() -> Self {
        Self::default()
    }

    /// Mounts adapters with a strength each. An adapter of which nothing fits is refused.
    pub fn mount(transformer: &Transformer, adapters: &[(Arc<Adapter>, f64)]) -> Result<(Self, Vec<Coverage>)> {
        todo!()
    }

    /// The pairs on one layer.
    pub fn pairs(&self, id: LinearId) -> &[LoraPair] {
        self.pairs.get(id).map(Vec::as_slice).unwrap_or_default()
    }

    pub fn push(&mut self, id: LinearId, pair: LoraPair) {
        if self.pairs.len() <= id {
            self.pairs.resize_with(id + 1, Vec::new);
        }
        self.pairs[id].push(pair);
    }
}
