//! The register of the transformer's linear layers: every one gets an id under which adapters are mounted.

use crate::{
    Result,
    checkpoint::Keys,
    linear::{Linear, LinearId},
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
        let id = self.infos.len();
        self.infos.push(LinearInfo { id, path: keys.path().to_owned(), in_features, out_features });
        Ok(Linear { id: Some(id), ..Linear::load(keys, in_features, out_features)? })
    }

    /// The id that the next layer will get.
    pub fn next_id(&self) -> LinearId {
        self.infos.len()
    }
}
