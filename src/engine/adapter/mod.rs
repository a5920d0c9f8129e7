//! Adapters: read, written, and mounted on a transformer without touching its weights.

mod change;
mod delta;
mod exact;
mod export;
mod fuse;
mod header;
mod key;
mod read;
mod scale;
mod side_path;
mod write;

pub(crate) use change::{Added, Change, Dora};
pub use delta::{Axis, Delta, Factor, Form, LoraPair, Magnitude, Product, Update};
pub use export::Export;
pub use key::Layout;
pub(crate) use side_path::{SidePath, SidePaths, Stacked};
pub use write::Target;

use crate::{
    Error, Result,
    linear::LinearId,
    transformer::{LinearInfo, Transformer},
};
use candle_core::{DType, Device, Tensor};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
};

/// An adapter file in memory: changes by module path of the diffusers transformer, such as `transformer_blocks.0.attn.to_q`; those of
/// CLIP by `text_encoder.` and its path.
#[derive(Clone, Debug)]
pub struct Adapter {
    pub name: String,
    /// Whose names most of its keys have.
    pub layout: Layout,
    pub modules: BTreeMap<String, Delta>,
    /// Keys of the file that lead to no layer, and why.
    pub left_out: Vec<(String, String)>,
    /// The safetensors header's own metadata.
    pub metadata: BTreeMap<String, String>,
}

/// Which modules of an adapter found their layer in this model.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    pub matched: Vec<Matched>,
    /// Module path or key, and reason.
    pub unmatched: Vec<(String, String)>,
}

/// A module that found its layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Matched {
    pub path: String,
    /// LoRA, DoRA, LoHa, LoKr.
    pub kind: &'static str,
    /// None if its factors are whole.
    pub rank: Option<usize>,
    /// What its product is multiplied with: alpha over rank, times the strength.
    pub scale: f64,
}

impl Coverage {
    /// Such as `12 of 14 modules fit: LoRA of rank 2 to 5, scale 0.5 to 1`.
    pub fn in_words(&self) -> String {
        let all = self.matched.len() + self.unmatched.len();
        let mut kinds: Vec<&str> = self.matched.iter().map(|matched| matched.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let ranks = range(self.matched.iter().filter_map(|matched| matched.rank.map(|rank| rank as f64)));
        let scales = range(self.matched.iter().map(|matched| matched.scale)).unwrap_or_default();
        let rank = ranks.map_or(String::new(), |ranks| format!(" of rank {ranks}"));
        format!("{} of {all} modules fit: {}{rank}, scale {scales}", self.matched.len(), kinds.join(" and "))
    }
}

/// `2` or `2 to 5`.
fn range(values: impl Iterator<Item = f64>) -> Option<String> {
    let (least, most) = values.fold(None, |range: Option<(f64, f64)>, x| {
        let (least, most) = range.unwrap_or((x, x));
        Some((least.min(x), most.max(x)))
    })?;
    let short = |x: f64| ((x * 1e4).round() / 1e4).to_string();
    Some(if least == most { short(least) } else { format!("{} to {}", short(least), short(most)) })
}

/// The changes of all mounted adapters, by layer; empty is the base model.
#[derive(Clone, Debug, Default)]
pub struct AdapterSet {
    layers: Vec<Vec<Mounted>>,
}

/// A change on its layer.
#[derive(Clone, Debug)]
pub(crate) struct Mounted {
    delta: Delta,
    strength: f64,
    /// DoRA: what brings the layer's rows or columns to their lengths, found when the layer is first used.
    gain: Arc<OnceLock<Tensor>>,
}

/// What adapters are mounted on: all layers of a transformer, or of CLIP.
#[derive(Clone, Copy)]
pub(crate) struct Host<'a> {
    pub linears: &'a [LinearInfo],
    pub device: &'a Device,
    /// Of activations.
    pub dtype: DType,
    /// How the adapters' paths of these layers begin; empty for the transformer.
    pub prefix: &'static str,
}

impl AdapterSet {
    pub fn base() -> Self {
        Self::default()
    }

    /// Mounts adapters with a strength each on the transformer. An adapter of which nothing fits is refused; what belongs to CLIP is
    /// [`Pipeline::mount`](crate::Pipeline::mount)'s, and here without a place.
    pub fn mount(transformer: &Transformer, adapters: &[(Arc<Adapter>, f64)]) -> Result<(Self, Vec<Coverage>)> {
        let (set, mut coverages) = Self::mount_on(transformer.host(), adapters)?;
        for ((adapter, _), coverage) in adapters.iter().zip(&mut coverages) {
            let of_clip = adapter.modules.keys().filter(|path| path.starts_with(TEXT_ENCODER));
            coverage.unmatched.extend(of_clip.map(|path| (path.clone(), "it belongs to a text encoder".into())));
            adapter.must_fit(coverage)?;
        }
        Ok((set, coverages))
    }

    /// Of each adapter what begins with the host's prefix.
    pub(crate) fn mount_on(host: Host, adapters: &[(Arc<Adapter>, f64)]) -> Result<(Self, Vec<Coverage>)> {
        let layers: HashMap<&str, &LinearInfo> = host.linears.iter().map(|info| (info.path.as_str(), info)).collect();
        let mut set = Self::base();
        let coverages = adapters.iter().map(|(adapter, strength)| set.add(host, &layers, adapter, *strength)).collect::<Result<_>>()?;
        Ok((set, coverages))
    }

    pub fn is_empty(&self) -> bool {
        self.layers.iter().all(Vec::is_empty)
    }

    pub fn push(&mut self, id: LinearId, pair: LoraPair) {
        self.put(id, Mounted { delta: pair.into(), strength: 1.0, gain: Arc::default() });
    }

    fn put(&mut self, id: LinearId, mounted: Mounted) {
        if self.layers.len() <= id {
            self.layers.resize_with(id + 1, Vec::new);
        }
        self.layers[id].push(mounted);
    }

    fn add(&mut self, host: Host, layers: &HashMap<&str, &LinearInfo>, adapter: &Adapter, strength: f64) -> Result<Coverage> {
        let mut coverage = Coverage::default();
        for (path, delta) in adapter.modules.iter().filter(|(path, _)| path.starts_with(TEXT_ENCODER) == (host.prefix == TEXT_ENCODER)) {
            match fit(&path[host.prefix.len()..], delta, layers) {
                Ok(id) => {
                    coverage.matched.push(Matched {
                        path: path.clone(),
                        kind: delta.kind(),
                        rank: delta.rank(),
                        scale: delta.scale() * strength,
                    });
                    // Strength 0 is the base model to the last bit, at its speed.
                    if strength != 0.0 {
                        // As its products read it, once for all steps.
                        let delta = delta.to(host.device, host.dtype)?;
                        self.put(id, Mounted { delta, strength, gain: Arc::default() });
                    }
                }
                Err(reason) => coverage.unmatched.push((path.clone(), reason)),
            }
        }
        Ok(coverage)
    }
}

impl Adapter {
    /// Of pairs by module path.
    pub fn of_pairs(name: &str, pairs: impl IntoIterator<Item = (String, LoraPair)>, metadata: BTreeMap<String, String>) -> Self {
        let modules = pairs.into_iter().map(|(path, pair)| (path, pair.into())).collect();
        Self { name: name.to_owned(), layout: Layout::Diffusers, modules, left_out: Vec::new(), metadata }
    }

    /// Refuses an adapter of which nothing fits, and adds to the coverage what its file could not place.
    pub(crate) fn must_fit(&self, coverage: &mut Coverage) -> Result<()> {
        if coverage.matched.is_empty() {
            let why = coverage.unmatched.first().map_or("it is empty".to_owned(), |(path, reason)| format!("{path}: {reason}"));
            return Err(Error::adapter(&self.name, format!("none of its {} modules fits this model ({why})", self.modules.len())));
        }
        coverage.unmatched.extend(self.left_out.iter().cloned());
        Ok(())
    }

    /// Bytes of its numbers in f32.
    pub fn bytes(&self) -> usize {
        self.modules.values().map(|delta| 4 * delta.count()).sum()
    }
}

/// The layer that a change belongs on, or why there is none.
fn fit(path: &str, delta: &Delta, layers: &HashMap<&str, &LinearInfo>) -> std::result::Result<LinearId, String> {
    let layer = layers.get(path).ok_or("this model has no such layer")?;
    let (given, expected) = (delta.update.shape(), (layer.out_features, layer.in_features));
    if given != expected {
        return Err(format!(
            "made for a layer of {} to {} features, but this model's has {} to {}",
            given.1, given.0, expected.1, expected.0
        ));
    }
    Ok(layer.id)
}

/// How the paths of CLIP's modules begin.
pub(crate) const TEXT_ENCODER: &str = "text_encoder.";
/// How the keys of the transformer's begin in a diffusers file.
const TRANSFORMER: &str = "transformer.";
