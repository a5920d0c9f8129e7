//! The changes of an adapter set as the layers' products read them.

use super::{AdapterSet, Axis, Magnitude, Mounted, Product, Update};
use crate::{Result, linear::LinearId};
use candle_core::{DType, Tensor, TensorId};
use std::sync::{Arc, OnceLock};

/// What is added beside a layer.
pub struct SidePath {
    pub change: Change,
    pub dora: Option<Dora>,
}

pub enum Change {
    /// y += scale·(x·Aᵀ)·Bᵀ
    Pair(Pair),
    /// y += strength·x·ΔWᵀ
    Product(Product, f64),
}

pub struct Pair {
    /// A, [r, in], and B, [out, r].
    given: [Tensor; 2],
    /// The same in the type of activations.
    active: [Tensor; 2],
    pub scale: f64,
    /// Of the tensors that A and B were taken from: their gradients go by these names.
    pub ids: [TensorId; 2],
}

/// y' = y + strength·(x·(W + ΔW)ᵀ·lengths / |W + ΔW| − x·Wᵀ)
pub struct Dora {
    pub magnitude: Magnitude,
    pub update: Update,
    pub strength: f64,
    /// The lengths over those that W + ΔW has.
    pub gain: Arc<OnceLock<Tensor>>,
}

impl SidePath {
    fn new(mounted: &Mounted, dtype: DType) -> Result<Self> {
        let Mounted { delta, strength, gain } = mounted;
        let change = match &delta.update {
            Update::Pair(pair) => {
                let given = [&pair.a, &pair.b].map(Tensor::detach);
                let active = [given[0].to_dtype(dtype)?, given[1].to_dtype(dtype)?];
                Change::Pair(Pair { given, active, scale: pair.scale * strength, ids: [pair.a.id(), pair.b.id()] })
            }
            Update::Product(product) => Change::Product(product.clone(), product.scale * strength),
        };
        let dora = |magnitude: &Magnitude| Dora {
            magnitude: magnitude.clone(),
            update: delta.update.clone(),
            strength: *strength,
            gain: gain.clone(),
        };
        Ok(Self { change, dora: delta.magnitude.as_ref().map(dora) })
    }

    /// By which the gradients of a pair go.
    pub fn ids(&self) -> &[TensorId] {
        match &self.change {
            Change::Pair(pair) => &pair.ids,
            Change::Product(..) => &[],
        }
    }
}

impl Pair {
    /// A and B in the type of what they meet: of activations, or f32 where a vector makes modulations.
    pub fn of(&self, dtype: DType) -> Result<[Tensor; 2]> {
        if self.active[0].dtype() == dtype {
            return Ok(self.active.clone());
        }
        Ok([self.given[0].to_dtype(dtype)?, self.given[1].to_dtype(dtype)?])
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
    pub fn scaled_pair(&self, a: Tensor, b: Tensor, gain: &Tensor) -> Result<[Tensor; 2]> {
        match self.magnitude.of {
            Axis::Outputs => Ok([a, self.scaled(&b, gain)?]),
            Axis::Inputs => Ok([self.scaled(&a, gain)?, b]),
        }
    }
}

/// All of them, by layer.
#[derive(Default)]
pub struct SidePaths(Vec<Vec<SidePath>>);

impl SidePaths {
    /// `dtype`: of activations.
    pub fn new(adapters: &AdapterSet, dtype: DType) -> Result<Self> {
        let paths = |mounted: &Vec<Mounted>| mounted.iter().map(|mounted| SidePath::new(mounted, dtype)).collect::<Result<_>>();
        Ok(Self(adapters.layers.iter().map(paths).collect::<Result<_>>()?))
    }

    pub fn on(&self, id: LinearId) -> &[SidePath] {
        self.0.get(id).map(Vec::as_slice).unwrap_or_default()
    }

    /// The lowest layer with a path that `chosen` picks.
    pub fn first(&self, chosen: impl Fn(&SidePath) -> bool) -> Option<LinearId> {
        self.0.iter().position(|paths| paths.iter().any(&chosen))
    }
}
