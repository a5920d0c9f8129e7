//! The pairs of an adapter set as the layers' products read them.

use super::{AdapterSet, LoraPair};
use crate::{Result, linear::LinearId, ops, transformer::Gradients};
use candle_core::{D, DType, Tensor, TensorId};
use std::{borrow::Cow, collections::BTreeMap};

/// y += Σ scale·(x·Aᵀ)·Bᵀ beside layers that read the same x in one product.
pub struct SidePath {
    /// In the order of the layers.
    pairs: Vec<Placed>,
    /// Of activations.
    stacked: Stacked,
}

/// A pair, and which of the product's layers it sits on.
struct Placed {
    id: LinearId,
    slot: usize,
    pair: LoraPair,
    /// Of the tensors that A and B were taken from: their gradients go by these names.
    ids: [TensorId; 2],
}

/// All A one below the other, so that x is read once.
#[derive(Clone)]
pub struct Stacked {
    /// [R, in]
    pub down: Tensor,
    pub ups: Vec<Up>,
}

/// One pair's way up.
#[derive(Clone)]
pub struct Up {
    pub slot: usize,
    /// [out, r], r as [`ops::padded_rank`] wants it.
    pub b: Tensor,
    pub scale: f64,
    pub ids: [TensorId; 2],
    /// Of its A in `down`, and so of its columns in x·downᵀ.
    first: usize,
    rank: usize,
}

impl SidePath {
    fn new(pairs: Vec<Placed>, dtype: DType) -> Result<Self> {
        Ok(Self { stacked: Stacked::new(&pairs, dtype)?, pairs })
    }

    /// In the type of what the pairs meet: of activations, or f32 where a vector makes modulations.
    pub fn stacked(&self, dtype: DType) -> Result<Cow<'_, Stacked>> {
        Ok(if self.stacked.down.dtype() == dtype { Cow::Borrowed(&self.stacked) } else { Cow::Owned(Stacked::new(&self.pairs, dtype)?) })
    }
}

impl Placed {
    fn is_trained(&self, gradients: &Gradients) -> bool {
        self.ids.iter().any(|&id| gradients.of(id).is_some())
    }
}

impl Stacked {
    fn new(pairs: &[Placed], dtype: DType) -> Result<Self> {
        let downs = pairs.iter().map(|placed| ops::padded_rank(&placed.pair.a, 0, dtype)).collect::<Result<Vec<_>>>()?;
        let mut end = 0;
        let up = |(placed, down): (&Placed, &Tensor)| {
            let first = end;
            end += down.dim(0)?;
            let Placed { slot, pair, ids, .. } = placed;
            let b = ops::padded_rank(&pair.b, 1, dtype)?;
            Ok(Up { slot: *slot, b, scale: pair.scale, ids: *ids, first, rank: pair.rank() })
        };
        let ups = pairs.iter().zip(&downs).map(up).collect::<Result<_>>()?;
        Ok(Self { down: Tensor::cat(&downs, 0)?, ups })
    }
}

impl Up {
    /// Its columns of x·downᵀ as B reads them. h: [.., R]
    pub fn of(&self, h: &Tensor) -> Result<Tensor> {
        Ok(h.narrow(D::Minus1, self.first, self.b.dim(1)?)?)
    }

    /// Without what only fills up the rank.
    pub fn exactly_of(&self, h: &Tensor) -> Result<Tensor> {
        Ok(h.narrow(D::Minus1, self.first, self.rank)?)
    }
}

/// All of them, by the first layer of each product.
#[derive(Default)]
pub struct SidePaths(BTreeMap<LinearId, SidePath>);

impl SidePaths {
    /// products: of each layer, the first of those that one product makes together; dtype: of activations.
    pub fn new(adapters: &AdapterSet, products: &[LinearId], dtype: DType) -> Result<Self> {
        let mut placed: BTreeMap<LinearId, Vec<Placed>> = BTreeMap::new();
        for (id, pair) in adapters.pairs.iter().enumerate().flat_map(|(id, pairs)| pairs.iter().map(move |pair| (id, pair))) {
            let first = products[id];
            let ids = [pair.a.id(), pair.b.id()];
            let pair = LoraPair { a: pair.a.detach(), b: pair.b.detach(), scale: pair.scale };
            placed.entry(first).or_default().push(Placed { id, slot: id - first, pair, ids });
        }
        Ok(Self(placed.into_iter().map(|(first, pairs)| Ok((first, SidePath::new(pairs, dtype)?))).collect::<Result<_>>()?))
    }

    /// Beside the product whose first layer this is.
    pub fn beside(&self, first: LinearId) -> Option<&SidePath> {
        self.0.get(&first)
    }

    pub fn is_trained(&self, first: LinearId, gradients: &Gradients) -> bool {
        self.beside(first).is_some_and(|path| path.pairs.iter().any(|placed| placed.is_trained(gradients)))
    }

    /// The lowest layer with a trained pair.
    pub fn first_trained(&self, gradients: &Gradients) -> Option<LinearId> {
        self.0.values().flat_map(|path| &path.pairs).find(|placed| placed.is_trained(gradients)).map(|placed| placed.id)
    }
}
