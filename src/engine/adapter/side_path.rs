//! The changes of an adapter set as the layers' products read them.

use super::{AdapterSet, Change, LoraPair, Mounted};
use crate::{Result, linear::LinearId, ops, transformer::Gradients};
use candle_core::{D, DType, Tensor, TensorId};
use std::{borrow::Cow, collections::BTreeMap};

/// What is added beside layers that read the same x in one product: y += Σ scale·(x·Aᵀ)·Bᵀ, and other changes.
pub struct SidePath {
    /// In the order of the layers.
    pairs: Vec<Placed>,
    /// The pairs in the type of activations, if there are any.
    stacked: Option<Stacked>,
    pub changes: Vec<Change>,
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
    fn new(mounted: &[(usize, LinearId, &Mounted)], dtype: DType) -> Result<Self> {
        let placed = |&(slot, id, mounted): &(usize, LinearId, &Mounted)| {
            let pair = mounted.delta.pair()?;
            let detached = LoraPair { a: pair.a.detach(), b: pair.b.detach(), scale: pair.scale * mounted.strength };
            Some(Placed { id, slot, pair: detached, ids: [pair.a.id(), pair.b.id()] })
        };
        let pairs: Vec<_> = mounted.iter().filter_map(placed).collect();
        let others = mounted.iter().filter(|(.., mounted)| mounted.delta.pair().is_none());
        let changes = others.map(|&(slot, _, mounted)| Change::new(mounted, slot)).collect();
        let stacked = (!pairs.is_empty()).then(|| Stacked::new(&pairs, dtype)).transpose()?;
        Ok(Self { pairs, stacked, changes })
    }

    /// The pairs in the type of what they meet: of activations, or f32 where a vector makes modulations.
    pub fn stacked(&self, dtype: DType) -> Result<Option<Cow<'_, Stacked>>> {
        Ok(match &self.stacked {
            Some(stacked) if stacked.down.dtype() != dtype => Some(Cow::Owned(Stacked::new(&self.pairs, dtype)?)),
            stacked => stacked.as_ref().map(Cow::Borrowed),
        })
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
        let mut placed: BTreeMap<LinearId, Vec<_>> = BTreeMap::new();
        for (id, mounted) in adapters.layers.iter().enumerate().flat_map(|(id, mounted)| mounted.iter().map(move |one| (id, one))) {
            placed.entry(products[id]).or_default().push((id - products[id], id, mounted));
        }
        Ok(Self(placed.into_iter().map(|(first, mounted)| Ok((first, SidePath::new(&mounted, dtype)?))).collect::<Result<_>>()?))
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
