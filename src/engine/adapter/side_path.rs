//! The pairs of an adapter set as the layers' products read them.

use super::{AdapterSet, LoraPair};
use crate::linear::LinearId;
use candle_core::{Tensor, TensorId};

/// y += scale·(x·Aᵀ)·Bᵀ beside a layer.
pub struct SidePath {
    /// [r, in]
    pub a: Tensor,
    /// [out, r]
    pub b: Tensor,
    pub scale: f64,
    /// Of the tensors that A and B were taken from: their gradients go by these names.
    pub ids: [TensorId; 2],
}

/// All of them, by layer.
#[derive(Default)]
pub struct SidePaths(Vec<Vec<SidePath>>);

impl SidePaths {
    pub fn new(adapters: &AdapterSet) -> Self {
        let path = |LoraPair { a, b, scale }: &LoraPair| SidePath { a: a.detach(), b: b.detach(), scale: *scale, ids: [a.id(), b.id()] };
        Self(adapters.pairs.iter().map(|pairs| pairs.iter().map(path).collect()).collect())
    }

    pub fn on(&self, id: LinearId) -> &[SidePath] {
        self.0.get(id).map(Vec::as_slice).unwrap_or_default()
    }

    /// The lowest layer with a path that `chosen` picks.
    pub fn first(&self, chosen: impl Fn(&SidePath) -> bool) -> Option<LinearId> {
        self.0.iter().position(|paths| paths.iter().any(&chosen))
    }
}
