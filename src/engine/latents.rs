//! Latents, plain and packed 2×2, and the noise they start from.

use crate::{Result, Size};
use candle_core::{Device, Tensor};

/// [B, 16, H/8, W/8], normalised (shifted and scaled).
#[derive(Clone, Debug)]
pub struct Latents(pub Tensor);

/// [B, H/16·W/16, 64], order (row, column) of (channel, dy, dx).
#[derive(Clone, Debug)]
pub struct PackedLatents(pub Tensor);

impl Latents {
    pub fn pack(&self) -> Result<PackedLatents> {
        todo!()
    }
}

impl PackedLatents {
    pub fn unpack(&self, size: Size) -> Result<Latents> {
        todo!()
    }

    /// Standard normal noise drawn on the CPU from `(seed, size)` alone. Row i of the batch is drawn from `seed + i`.
    pub fn noise(seed: u64, count: usize, size: Size, device: &Device) -> Result<Self> {
        todo!()
    }
}
