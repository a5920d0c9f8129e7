//! LoRA adapters: read, written, and mounted on a transformer without touching its weights.

mod header;
mod read;
mod side_path;
mod write;

pub(crate) use side_path::{SidePath, SidePaths, Stacked};

use crate::{
    Error, Result,
    linear::LinearId,
    transformer::{LinearInfo, Transformer},
};
use candle_core::Tensor;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// ΔW = scale · B·A for one linear layer.
#[derive(Clone, Debug)]
pub struct LoraPair {
    /// [r, in], f32 or the type of activations
    pub a: Tensor,
    /// [out, r], of the same type
    pub b: Tensor,
    /// alpha / r (alpha / √r for rsLoRA), times the strength that the request gives.
    pub scale: f64,
}

impl LoraPair {
    pub fn rank(&self) -> usize {
        self.a.dims()[0]
    }
}

/// An adapter file in memory: pairs by module path of the diffusers transformer, such as `transformer_blocks.0.attn.to_q`.
/// Pairs for a text encoder keep their whole path (`text_encoder.…`) and are reported as unmatched by [`AdapterSet::mount`].
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

impl AdapterSet {
    pub fn base() -> Self {
        Self::default()
    }

    /// Mounts adapters with a strength each. An adapter of which nothing fits is refused.
    pub fn mount(transformer: &Transformer, adapters: &[(Arc<Adapter>, f64)]) -> Result<(Self, Vec<Coverage>)> {
        let layers: HashMap<&str, &LinearInfo> = transformer.linears().iter().map(|info| (info.path.as_str(), info)).collect();
        let mut set = Self::base();
        let coverages =
            adapters.iter().map(|(adapter, strength)| set.add(transformer, &layers, adapter, *strength)).collect::<Result<_>>()?;
        Ok((set, coverages))
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

    fn add(
        &mut self,
        transformer: &Transformer,
        layers: &HashMap<&str, &LinearInfo>,
        adapter: &Adapter,
        strength: f64,
    ) -> Result<Coverage> {
        // As its products read them, once for all steps.
        let place = |x: &Tensor| x.to_device(transformer.device())?.to_dtype(transformer.dtype());
        let mut coverage = Coverage::default();
        for (path, pair) in &adapter.modules {
            match fit(path, pair, layers) {
                Ok(id) => {
                    coverage.matched.push(path.clone());
                    // Strength 0 is the base model to the last bit, at its speed.
                    if strength != 0.0 {
                        self.push(id, LoraPair { a: place(&pair.a)?, b: place(&pair.b)?, scale: pair.scale * strength });
                    }
                }
                Err(reason) => coverage.unmatched.push((path.clone(), reason)),
            }
        }
        if coverage.matched.is_empty() {
            let why = coverage.unmatched.first().map_or("it is empty".to_owned(), |(path, reason)| format!("{path}: {reason}"));
            return Err(Error::adapter(&adapter.name, format!("none of its {} modules fits this model ({why})", adapter.modules.len())));
        }
        Ok(coverage)
    }
}

/// The layer that a pair belongs on, or why there is none.
fn fit(path: &str, pair: &LoraPair, layers: &HashMap<&str, &LinearInfo>) -> std::result::Result<LinearId, String> {
    if path.starts_with(TEXT_ENCODER) {
        return Err("it belongs to a text encoder, and only the transformer takes adapters here".into());
    }
    let layer = layers.get(path).ok_or("this model has no such layer")?;
    let (given, expected) = ((pair.a.dims()[1], pair.b.dims()[0]), (layer.in_features, layer.out_features));
    if given != expected {
        return Err(format!(
            "made for a layer of {} to {} features, but this model's has {} to {}",
            given.0, given.1, expected.0, expected.1
        ));
    }
    Ok(layer.id)
}

/// How the keys of text-encoder pairs begin.
const TEXT_ENCODER: &str = "text_encoder.";
/// How the keys of transformer pairs begin in a diffusers file.
const TRANSFORMER: &str = "transformer.";
