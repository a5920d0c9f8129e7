//! A change of a layer that is no LoRA pair: LoHa, LoKr, a whole matrix, and whatever DoRA brings to lengths.

use super::{Axis, Delta, LoraPair, Update};
use crate::Result;
use candle_core::{DType, Tensor};
use std::sync::OnceLock;

/// On its layer, in the type of activations.
#[derive(Debug)]
pub struct Other {
    pub delta: Delta,
    pub strength: f64,
    /// DoRA: the lengths over those that W + ΔW has, [out] or [in]; found when the layer is first used.
    pub gain: OnceLock<Tensor>,
}

/// What a product adds: scale·(x·Aᵀ)·Bᵀ, or scale·x·ΔWᵀ.
pub enum Change {
    Pair { a: Tensor, b: Tensor, scale: f64 },
    Matrix { delta: Tensor, scale: f64 },
}

impl Other {
    pub fn new(delta: Delta, strength: f64) -> Self {
        Self { delta, strength, gain: OnceLock::new() }
    }

    /// The axis along which DoRA has lengths.
    pub fn axis(&self) -> Option<Axis> {
        self.delta.magnitude.as_ref().map(|magnitude| magnitude.of)
    }

    /// With rows or columns times `gain`, in this type.
    pub fn change(&self, gain: Option<&Tensor>, dtype: DType) -> Result<Change> {
        let scaled = |matrix: &Tensor, along: Axis| -> Result<Tensor> {
            let matrix = matrix.to_dtype(dtype)?;
            match (gain, self.axis()) {
                (Some(gain), Some(axis)) if axis == along => {
                    let gain = gain.to_dtype(dtype)?;
                    Ok(matrix.broadcast_mul(&if axis == Axis::Outputs { gain.unsqueeze(1)? } else { gain.unsqueeze(0)? })?)
                }
                _ => Ok(matrix),
            }
        };
        Ok(match &self.delta.update {
            Update::Pair(LoraPair { a, b, scale }) => {
                Change::Pair { a: scaled(a, Axis::Inputs)?, b: scaled(b, Axis::Outputs)?, scale: scale * self.strength }
            }
            Update::Product(product) => {
                let delta = scaled(&scaled(&product.matrix()?, Axis::Inputs)?, Axis::Outputs)?;
                Change::Matrix { delta, scale: product.scale * self.strength }
            }
        })
    }
}
