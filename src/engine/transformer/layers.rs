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
    /// Of each layer, the first of those that one product makes together.
    pub products: Vec<LinearId>,
}

impl Layers {
    pub fn linear(&mut self, keys: &Keys, in_features: usize, out_features: usize) -> Result<Linear> {
        self.fused(std::slice::from_ref(keys), &[in_features], out_features)
    }

    /// A layer that is not quantised: an embedder, or the last one.
    pub fn unquantised(&mut self, keys: &Keys, in_features: usize, out_features: usize) -> Result<Linear> {
        self.linear(&keys.with(keys.precision().unquantised()), in_features, out_features)
    }

    /// A layer of modulation, which is not quantised. A quarter of all weights are of this kind and read one row a step: where memory is
    /// short enough for NF4, they stay on the host.
    pub fn modulation(&mut self, keys: &Keys, in_features: usize, out_features: usize) -> Result<Linear> {
        #[cfg(feature = "cuda")]
        if keys.precision() == crate::Precision::Nf4 && keys.device().is_cuda() {
            let linear = Linear::load_on_host(&keys.with(keys.precision().unquantised()), in_features, out_features)?;
            return Ok(self.register(linear, std::slice::from_ref(keys), in_features, out_features));
        }
        self.unquantised(keys, in_features, out_features)
    }

    /// Layers of `out_features` each in one product, whose input comes in parts of these widths.
    pub fn fused(&mut self, layers: &[Keys], parts: &[usize], out_features: usize) -> Result<Linear> {
        let linear = Linear::load_fused(layers, parts, out_features)?;
        Ok(self.register(linear, layers, parts.iter().sum(), out_features))
    }

    /// Numbers the layers that `linear` stands for.
    fn register(&mut self, mut linear: Linear, layers: &[Keys], in_features: usize, out_features: usize) -> Linear {
        let first = self.next_id();
        let info = |(id, keys): (LinearId, &Keys)| LinearInfo { id, path: keys.path().to_owned(), in_features, out_features };
        self.infos.extend((first..).zip(layers).map(info));
        self.products.resize(self.infos.len(), first);
        linear.slots = (0..layers.len()).map(|i| Slot { id: first + i, first: i * out_features, count: out_features }).collect();
        linear
    }

    /// The id that the next layer will get.
    pub fn next_id(&self) -> LinearId {
        self.infos.len()
    }
}
