//! Adaptive layer norm (`AdaLayerNormZero`, `AdaLayerNormZeroSingle`): shift, scale and gate from the vector.

use crate::{
    Result,
    linear::{Linear, LinearId},
    ops::{self, Activation, Reads},
};
use candle_core::Tensor;
use std::collections::HashMap;

/// What every layer of modulation makes of the vector: the shifts, scales and gates of all blocks. They depend on time, guidance and pooled
/// text alone, so those of many steps can be made at once, before the first.
#[derive(Clone, Debug)]
pub struct Modulations {
    /// [rows, 3·N·C] f32; in the output [rows, 2·C].
    layers: HashMap<LinearId, Tensor>,
    rows: usize,
}

impl Modulations {
    pub(super) fn new(layers: HashMap<LinearId, Tensor>, rows: usize) -> Self {
        Self { layers, rows }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Those of one call, whose batch they are the rows of.
    pub fn narrow(&self, first: usize, count: usize) -> Result<Self> {
        let narrow = |(&id, vectors): (&LinearId, &Tensor)| Ok((id, vectors.narrow(0, first, count)?));
        Ok(Self { layers: self.layers.iter().map(narrow).collect::<Result<_>>()?, rows: count })
    }

    /// Of one layer.
    pub(super) fn of(&self, norm: &Linear) -> &Tensor {
        &self.layers[&norm.slots[0].id]
    }
}

/// Each [B, C].
pub struct Modulation {
    shift: Tensor,
    scale: Tensor,
    gate: Tensor,
}

impl Modulation {
    /// `N` modulations from what one linear layer makes of the vector: [B, 3·N·C], order shift, scale, gate.
    pub fn split<const N: usize>(vectors: &Tensor) -> Result<[Self; N]> {
        let chunks = vectors.chunk(3 * N, 1)?;
        Ok(std::array::from_fn(|i| Self {
            shift: chunks[3 * i].clone(),
            scale: chunks[3 * i + 1].clone(),
            gate: chunks[3 * i + 2].clone(),
        }))
    }

    /// LayerNorm(x)·(1 + scale) + shift, as `reads` wants it. x: [B, S, C]
    pub fn norm(&self, x: &Tensor, reads: Reads) -> Result<Activation> {
        ops::layer_norm_modulate(x, &self.shift, &self.scale, reads)
    }

    /// The gradient of x, with what flows beside the norm added to it. g: of the norm's result
    pub fn norm_backward(&self, x: &Tensor, g: &Tensor, beside: &Tensor) -> Result<Tensor> {
        ops::layer_norm_modulate_gradient(x, &self.scale, g, Some(beside))
    }

    /// residual + gate·y
    pub fn add_gated(&self, residual: &Tensor, y: &Tensor) -> Result<Tensor> {
        ops::gate_residual(residual, &self.gate, y)
    }

    /// The gradient of y. g: of the sum
    pub fn gate_backward(&self, g: &Tensor) -> Result<Tensor> {
        ops::gate_gradient_x(&self.gate, g)
    }

    /// The gradients of shift, scale and gate side by side, [B, 3·C], from the norm's x and gradient and the gate's y and gradient.
    pub fn gradient((x, dnorm): (&Tensor, &Tensor), (y, dsum): (&Tensor, &Tensor)) -> Result<Tensor> {
        let (dshift, dscale) = ops::modulation_gradients(x, dnorm)?;
        Ok(Tensor::cat(&[dshift, dscale, ops::gate_gradient(y, dsum)?], 1)?)
    }
}
