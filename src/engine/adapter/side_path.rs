//! The pairs of an adapter set as the layers' products read them.

use super::{AdapterSet, LoraPair, other::Other};
use crate::{Result, linear::LinearId};
use candle_core::{DType, Tensor, TensorId};
use std::{collections::BTreeMap, sync::Arc};

/// y += scale·(x·Aᵀ)·Bᵀ beside a layer.
pub struct SidePath {
    /// A, [r, in], and B, [out, r].
    given: [Tensor; 2],
    /// The same in the type of activations.
    active: [Tensor; 2],
    pub scale: f64,
    /// Of the tensors that A and B were taken from: their gradients go by these names.
    pub ids: [TensorId; 2],
}

impl SidePath {
    fn new(pair: &LoraPair, dtype: DType) -> Result<Self> {
        let given = [&pair.a, &pair.b].map(Tensor::detach);
        let active = [given[0].to_dtype(dtype)?, given[1].to_dtype(dtype)?];
        Ok(Self { given, active, scale: pair.scale, ids: [pair.a.id(), pair.b.id()] })
    }

    /// A and B in the type of what they meet: of activations, or f32 where a vector makes modulations.
    pub fn pair(&self, dtype: DType) -> Result<[Tensor; 2]> {
        if self.active[0].dtype() == dtype {
            return Ok(self.active.clone());
        }
        Ok([self.given[0].to_dtype(dtype)?, self.given[1].to_dtype(dtype)?])
    }
}

/// All of them, by layer.
#[derive(Default)]
pub struct SidePaths {
    pairs: Vec<Vec<SidePath>>,
    others: BTreeMap<LinearId, Vec<Arc<Other>>>,
}

impl SidePaths {
    /// `dtype`: of activations.
    pub fn new(adapters: &AdapterSet, dtype: DType) -> Result<Self> {
        let paths = |pairs: &Vec<LoraPair>| pairs.iter().map(|pair| SidePath::new(pair, dtype)).collect::<Result<_>>();
        Ok(Self { pairs: adapters.pairs.iter().map(paths).collect::<Result<_>>()?, others: adapters.others.clone() })
    }

    pub fn on(&self, id: LinearId) -> &[SidePath] {
        self.pairs.get(id).map(Vec::as_slice).unwrap_or_default()
    }

    /// The changes of a layer that are no pairs.
    pub fn others(&self, id: LinearId) -> &[Arc<Other>] {
        self.others.get(&id).map(Vec::as_slice).unwrap_or_default()
    }

    /// The lowest layer with a path that `chosen` picks.
    pub fn first(&self, chosen: impl Fn(&SidePath) -> bool) -> Option<LinearId> {
        self.pairs.iter().position(|paths| paths.iter().any(&chosen))
    }
}
