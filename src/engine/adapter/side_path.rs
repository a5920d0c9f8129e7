//! The pairs of an adapter set as the layers' products read them.

use super::{AdapterSet, LoraPair};
use crate::{Result, linear::LinearId};
use candle_core::{DType, Tensor, TensorId};

/// y += scale·(x·Aᵀ)·Bᵀ beside a layer.
pub struct SidePath {
    /// A, [r, in], and B, [out, r], in f32.
    exact: [Tensor; 2],
    /// The same in the type of activations.
    active: [Tensor; 2],
    pub scale: f64,
    /// Of the tensors that A and B were taken from: their gradients go by these names.
    pub ids: [TensorId; 2],
}

impl SidePath {
    fn new(pair: &LoraPair, dtype: DType) -> Result<Self> {
        let exact = [&pair.a, &pair.b].map(Tensor::detach);
        let active = [exact[0].to_dtype(dtype)?, exact[1].to_dtype(dtype)?];
        Ok(Self { exact, active, scale: pair.scale, ids: [pair.a.id(), pair.b.id()] })
    }

    /// A and B in the type of what they meet.
    pub fn pair(&self, dtype: DType) -> &[Tensor; 2] {
        if self.active[0].dtype() == dtype { &self.active } else { &self.exact }
    }
}

/// All of them, by layer.
#[derive(Default)]
pub struct SidePaths(Vec<Vec<SidePath>>);

impl SidePaths {
    /// `dtype`: of activations.
    pub fn new(adapters: &AdapterSet, dtype: DType) -> Result<Self> {
        let paths = |pairs: &Vec<LoraPair>| pairs.iter().map(|pair| SidePath::new(pair, dtype)).collect::<Result<_>>();
        Ok(Self(adapters.pairs.iter().map(paths).collect::<Result<_>>()?))
    }

    pub fn on(&self, id: LinearId) -> &[SidePath] {
        self.0.get(id).map(Vec::as_slice).unwrap_or_default()
    }

    /// The lowest layer with a path that `chosen` picks.
    pub fn first(&self, chosen: impl Fn(&SidePath) -> bool) -> Option<LinearId> {
        self.0.iter().position(|paths| paths.iter().any(&chosen))
    }
}
