//! The one linear layer: a frozen weight, a bias, and whatever LoRA pairs a request mounts on it.

use crate::{AdapterSet, Result, checkpoint::Keys, ops};
use candle_core::Tensor;

/// Names a linear layer of the transformer; [`AdapterSet`] is indexed by it.
pub type LinearId = usize;

/// y = x·Wᵀ + b + Σ scale·(x·Aᵀ)·Bᵀ. Gradients flow to x and to the pairs, never to W or b.
pub struct Linear {
    /// `None` for layers that no adapter reaches (text encoders, VAE).
    pub id: Option<LinearId>,
    pub weight: ops::Weight,
    /// [out]
    pub bias: Option<Tensor>,
}

impl Linear {
    /// Reads `weight` [out, in] and `bias` [out].
    pub fn load(keys: &Keys, in_features: usize, out_features: usize) -> Result<Self> {
        let bias = keys.take_f32("bias", &[out_features])?;
        Ok(Self { bias: Some(bias), ..Self::load_unbiased(keys, in_features, out_features)? })
    }

    /// Reads `weight` [out, in] of a layer that has no bias.
    pub fn load_unbiased(keys: &Keys, in_features: usize, out_features: usize) -> Result<Self> {
        let weight = ops::Weight::new(&keys.take("weight", &[out_features, in_features])?)?;
        Ok(Self { id: None, weight, bias: None })
    }

    /// x: [.., in] → [.., out]
    pub fn forward(&self, x: &Tensor, adapters: &AdapterSet) -> Result<Tensor> {
        let mut y = ops::linear(x, &self.weight, self.bias.as_ref())?;
        for pair in self.id.map(|id| adapters.pairs(id)).unwrap_or_default() {
            y = ops::add_lora(&y, x, pair)?;
        }
        Ok(y)
    }

    /// The layer alone, for parts of the model that no adapter reaches.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.weight, self.bias.as_ref())
    }
}
