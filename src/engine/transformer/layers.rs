//! The register of the transformer's linear layers: every one gets an id under which adapters are mounted.

use crate::{
    Result,
    checkpoint::Keys,
    linear::{Linear, LinearId, Slot},
};

/// A linear layer that an adapter may sit on.
#[derive(Clone, Debug)]
pub struct LinearInfo {
    pub id: LinearId,
    /// diffusers module path, such as `single_transformer_blocks.4.proj_out`
    pub path: String,
    pub in_features: usize,
    pub out_features: usize,
}

/// Loads layers and numbers them in the order they are asked for.
#[derive(Default)]
pub struct Layers {
    pub infos: Vec<LinearInfo>,
}

impl Layers {
    pub fn linear(&mut self, keys: &Keys, in_features: usize, out_features: usize) -> Result<Linear> {
        self.fused(std::slice::from_ref(keys), &[in_features], out_features)
    }

    /// Layers of `out_features` each in one product, whose input comes in parts of these widths.
    pub fn fused(&mut self, layers: &[Keys], parts: &[usize], out_features: usize) -> Result<Linear> {
        let first = self.infos.len();
        let info =
            |(id, keys): (LinearId, &Keys)| LinearInfo { id, path: keys.path().to_owned(), in_features: parts.iter().sum(), out_features };
        self.infos.extend((first..).zip(layers).map(info));
        let mut linear = Linear::load_fused(layers, parts, out_features)?;
        linear.slots = (0..layers.len()).map(|i| Slot { id: first + i, first: i * out_features, count: out_features }).collect();
        Ok(linear)
    }

    /// The id that the next layer will get.
    pub fn next_id(&self) -> LinearId {
        self.infos.len()
    }
}
