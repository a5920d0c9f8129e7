//! What LoHa, LoKr, whole matrices and DoRA add beside a layer: everything that is more than a pair.

use super::{Axis, LoraPair, Magnitude, Mounted, Product, Update};
use crate::Result;
use candle_core::Tensor;
use std::sync::{Arc, OnceLock};

pub struct Change {
    /// Which of the product's layers it sits on.
    pub slot: usize,
    pub added: Added,
    pub dora: Option<Dora>,
}

pub enum Added {
    /// y += scale·(x·Aᵀ)·Bᵀ
    Pair(LoraPair),
    /// y += strength·x·ΔWᵀ
    Product(Product, f64),
}

/// y' = y + strength·(x·(W + ΔW)ᵀ·lengths / |W + ΔW| − x·Wᵀ)
pub struct Dora {
    pub magnitude: Magnitude,
    pub update: Update,
    pub strength: f64,
    /// The lengths over those that W + ΔW has.
    pub gain: Arc<OnceLock<Tensor>>,
}

impl Change {
    pub(super) fn new(mounted: &Mounted, slot: usize) -> Self {
        let Mounted { delta, strength, gain } = mounted;
        let added = match &delta.update {
            Update::Pair(pair) => Added::Pair(LoraPair { scale: pair.scale * strength, ..pair.clone() }),
            Update::Product(product) => Added::Product(product.clone(), product.scale * strength),
        };
        let dora = |magnitude: &Magnitude| Dora {
            magnitude: magnitude.clone(),
            update: delta.update.clone(),
            strength: *strength,
            gain: gain.clone(),
        };
        Self { slot, added, dora: delta.magnitude.as_ref().map(dora) }
    }
}

impl Dora {
    /// A matrix [out, ..] for rows, [.., in] for columns, brought to the lengths.
    pub fn scaled(&self, matrix: &Tensor, gain: &Tensor) -> Result<Tensor> {
        let gain = gain.to_dtype(matrix.dtype())?;
        Ok(match self.magnitude.of {
            Axis::Outputs => matrix.broadcast_mul(&gain.unsqueeze(1)?)?,
            Axis::Inputs => matrix.broadcast_mul(&gain.unsqueeze(0)?)?,
        })
    }

    /// The same for scale·B·A.
    pub fn scaled_pair(&self, [a, b]: [Tensor; 2], gain: &Tensor) -> Result<[Tensor; 2]> {
        match self.magnitude.of {
            Axis::Outputs => Ok([a, self.scaled(&b, gain)?]),
            Axis::Inputs => Ok([self.scaled(&a, gain)?, b]),
        }
    }
}
