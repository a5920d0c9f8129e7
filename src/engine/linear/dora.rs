//! DoRA beside a layer: W' = lengths ⊙ (W + ΔW) / |W + ΔW|, as what it adds to x·Wᵀ.
//!
//! With gain s = lengths / |W + ΔW| for each row, (W' − W)·x = (s − 1)⊙(W·x) + s⊙(ΔW·x); for each column s meets x instead.
//! PEFT `tuners/lora/dora.py`; LyCORIS `apply_weight_decompose`.

use super::{Linear, Slot, ranges};
use crate::{
    Result,
    adapter::{Axis, Change, Dora},
    ops::{self, Activation},
};
use candle_core::{D, DType, Tensor};

impl Linear {
    /// Adds strength·(s − 1)⊙(x·Wᵀ) of every DoRA change to y, which holds x·Wᵀ + b and nothing else yet. Returns s for each change that has one.
    pub(super) fn add_lengths(&self, y: &Tensor, parts: &[&Activation], changes: &[Change]) -> Result<Vec<Option<Tensor>>> {
        let mut gains = Vec::new();
        let mut rows: Vec<(Slot, Tensor, Tensor)> = Vec::new();
        for change in changes {
            let Some(dora) = &change.dora else {
                gains.push(None);
                continue;
            };
            let slot = self.slots[change.slot];
            let gain = self.gain(slot, dora)?;
            let more = ((&gain - 1.0)? * dora.strength)?;
            let (made, factor) = match dora.magnitude.of {
                Axis::Outputs => (self.without_bias(slot, y)?, more),
                Axis::Inputs => (self.of_scaled(slot, parts, &more)?, Tensor::ones(slot.count, DType::F32, y.device())?),
            };
            rows.push((slot, made, factor));
            gains.push(Some(gain));
        }
        for (slot, made, factor) in &rows {
            ops::add_columns(&slot.of(y)?, made, factor)?;
        }
        Ok(gains)
    }

    /// s, found once for each mounted adapter.
    fn gain(&self, slot: Slot, dora: &Dora) -> Result<Tensor> {
        if let Some(gain) = dora.gain.get() {
            return Ok(gain.clone());
        }
        let lengths = self.lengths(slot, &dora.update.matrix()?.to_dtype(DType::F32)?, dora.magnitude.of)?;
        // A row or column of zeros has no direction to keep.
        let gain = (&dora.magnitude.values / lengths.maximum(1e-12f64)?)?;
        Ok(dora.gain.get_or_init(|| gain).clone())
    }

    /// The lengths of the rows or columns of W + ΔW. delta: [out, in] f32
    fn lengths(&self, slot: Slot, delta: &Tensor, of: Axis) -> Result<Tensor> {
        // W comes out of products with some columns of the identity, whatever form it is held in.
        const COLUMNS: usize = 512;
        let (mut rows, mut columns) = (Tensor::zeros(slot.count, DType::F32, delta.device())?, Vec::new());
        let widths: Vec<usize> = self.weights.iter().map(ops::Weight::in_features).collect();
        for (weight, (part, width)) in self.weights.iter().zip(ranges(&widths)) {
            for first in (0..width).step_by(COLUMNS) {
                let count = COLUMNS.min(width - first);
                let identity = Tensor::eye(count, DType::F32, delta.device())?.pad_with_zeros(1, first, width - first - count)?;
                // (in, out) -> (out, in)
                let weight =
                    ops::linear(&(&identity).into(), weight, None)?.to_dtype(DType::F32)?.narrow(1, slot.first, slot.count)?.t()?;
                let squares = (weight + delta.narrow(1, part + first, count)?)?.sqr()?;
                rows = (rows + squares.sum(1)?)?;
                columns.push(squares.sum(0)?);
            }
        }
        Ok(match of {
            Axis::Outputs => rows.sqrt()?,
            Axis::Inputs => Tensor::cat(&columns, 0)?.sqrt()?,
        })
    }

    /// x·Wᵀ of the slot, out of y before anything else was added.
    fn without_bias(&self, slot: Slot, y: &Tensor) -> Result<Tensor> {
        let y = slot.of(y)?.force_contiguous()?;
        Ok(match &self.bias {
            Some(bias) => y.broadcast_sub(&bias.to_dtype(y.dtype())?.narrow(0, slot.first, slot.count)?)?,
            None => y,
        })
    }

    /// (x ⊙ gain)·Wᵀ of the slot.
    fn of_scaled(&self, slot: Slot, parts: &[&Activation], gain: &Tensor) -> Result<Tensor> {
        let gain = gain.unsqueeze(0)?;
        let scaled = parts.iter().zip(self.columns(&gain)).map(|(x, gain)| {
            let x = x.values()?;
            Ok(Activation::from(&x.broadcast_mul(&gain?.squeeze(0)?.to_dtype(x.dtype())?)?))
        });
        let scaled = scaled.collect::<Result<Vec<_>>>()?;
        let y = ops::linear(&scaled[0], &self.weights[0], None)?;
        for (x, weight) in scaled.iter().zip(&self.weights).skip(1) {
            ops::add_linear(&y, x, weight)?;
        }
        Ok(y.narrow(D::Minus1, slot.first, slot.count)?.contiguous()?)
    }
}
