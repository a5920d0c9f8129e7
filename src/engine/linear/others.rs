//! Beside a layer what is no LoRA pair: LoHa and LoKr, whose ΔW is made for the product, and DoRA, W' = lengths ⊙ (W + ΔW) / |W + ΔW|.
//!
//! With gain s = lengths / |W + ΔW| for each row, (W' − W)·x = (s − 1)⊙(W·x) + s⊙(ΔW·x); for each column s meets x instead.
//! PEFT `tuners/lora/dora.py`; LyCORIS `apply_weight_decompose`.

use super::{Linear, Slot, ranges};
use crate::{
    Result,
    adapter::{Axis, Change, Other, SidePaths},
    ops::{self, Activation},
};
use candle_core::{D, DType, Tensor};
use std::sync::Arc;

impl Linear {
    pub(super) fn has_others(&self, paths: &SidePaths) -> bool {
        self.slots.iter().any(|slot| !paths.others(slot.id).is_empty())
    }

    /// Adds to y, which holds x·Wᵀ + b and nothing else yet.
    pub(super) fn add_others(&self, y: &Tensor, parts: &[&Activation], paths: &SidePaths) -> Result<()> {
        if !self.has_others(paths) {
            return Ok(());
        }
        self.add_lengths(y, parts, paths)?;
        for (slot, other) in self.others(paths) {
            let (y, gain) = (slot.of(y)?, other.axis().map(|axis| self.gain(slot, other, axis)).transpose()?);
            match other.change(gain.as_ref(), y.dtype())? {
                Change::Pair { a, b, scale } => ops::add_lora_up(&y, &self.hidden(parts, &a)?, &b, scale)?,
                Change::Matrix { delta, scale } => {
                    for (x, delta) in parts.iter().zip(self.columns(&delta)) {
                        ops::add_lora_up(&y, x.values()?, &delta?, scale)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn others<'a>(&'a self, paths: &'a SidePaths) -> impl Iterator<Item = (Slot, &'a Arc<Other>)> {
        self.slots.iter().flat_map(|&slot| paths.others(slot.id).iter().map(move |other| (slot, other)))
    }

    /// Adds strength·(s − 1)⊙(x·Wᵀ) of every DoRA, made of what W alone has made before any is added.
    fn add_lengths(&self, y: &Tensor, parts: &[&Activation], paths: &SidePaths) -> Result<()> {
        let mut terms = Vec::new();
        for (slot, other) in self.others(paths) {
            let Some(axis) = other.axis() else { continue };
            let more = ((self.gain(slot, other, axis)? - 1.0)? * other.strength)?;
            terms.push(match axis {
                Axis::Outputs => (slot, self.without_bias(slot, y)?, more),
                Axis::Inputs => (slot, self.of_scaled(slot, parts, &more)?, Tensor::ones(slot.count, DType::F32, y.device())?),
            });
        }
        terms.iter().try_for_each(|(slot, made, gain)| ops::add_columns(&slot.of(y)?, made, gain))
    }

    /// s, found once for each mounted adapter.
    fn gain(&self, slot: Slot, other: &Other, axis: Axis) -> Result<Tensor> {
        if let Some(gain) = other.gain.get() {
            return Ok(gain.clone());
        }
        let magnitude = other.delta.magnitude.as_ref().expect("an axis of lengths");
        let lengths = self.lengths(slot, &other.delta.update.matrix()?.to_dtype(DType::F32)?, axis)?;
        // A row or column of zeros has no direction to keep.
        let gain = (&magnitude.values / lengths.maximum(1e-12f64)?)?;
        Ok(other.gain.get_or_init(|| gain).clone())
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
                let identity = Tensor::eye(width, DType::F32, delta.device())?.narrow(0, first, count)?.contiguous()?;
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
