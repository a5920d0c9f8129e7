//! Latents, plain and packed 2×2, and the noise they start from.

use crate::{Error, Result, Size};
use candle_core::{Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// Channels of a FLUX.1 latent.
pub const CHANNELS: usize = 16;
/// Channels of a packed token: 16 · 2 · 2.
pub const PACKED_CHANNELS: usize = 4 * CHANNELS;

/// [B, 16, H/8, W/8], normalised (shifted and scaled).
#[derive(Clone, Debug)]
pub struct Latents(pub Tensor);

/// [B, H/16·W/16, 64], order (row, column) of (channel, dy, dx).
#[derive(Clone, Debug)]
pub struct PackedLatents(pub Tensor);

impl Latents {
    pub fn pack(&self) -> Result<PackedLatents> {
        let (b, c, h, w) = self.0.dims4()?;
        if c != CHANNELS || h % 2 != 0 || w % 2 != 0 {
            return Err(Error::invalid(format!("latents [{b}, {c}, {h}, {w}]: {CHANNELS} channels and even sides are needed to pack 2x2")));
        }
        // (b, c, row, dy, column, dx) -> (b, row, column, c, dy, dx)
        let blocks = self.0.reshape((b, c, h / 2, 2, w / 2, 2))?.permute((0, 2, 4, 1, 3, 5))?;
        Ok(PackedLatents(blocks.reshape((b, h / 2 * (w / 2), PACKED_CHANNELS))?))
    }
}

impl PackedLatents {
    pub fn unpack(&self, size: Size) -> Result<Latents> {
        let (rows, columns) = size.grid();
        let (b, tokens, channels) = self.0.dims3()?;
        if tokens != rows * columns || channels != PACKED_CHANNELS {
            return Err(Error::invalid(format!(
                "packed latents [{b}, {tokens}, {channels}] are not a {size} picture: [{b}, {}, {PACKED_CHANNELS}] is",
                size.tokens()
            )));
        }
        // (b, row, column, c, dy, dx) -> (b, c, row, dy, column, dx)
        let blocks = self.0.reshape((b, rows, columns, CHANNELS, 2, 2))?.permute((0, 3, 1, 4, 2, 5))?;
        Ok(Latents(blocks.reshape((b, CHANNELS, 2 * rows, 2 * columns))?))
    }

    /// Standard normal noise drawn on the CPU from `(seed, size)` alone. Row i of the batch is drawn from `seed + i`.
    pub fn noise(seed: u64, count: usize, size: Size, device: &Device) -> Result<Self> {
        let each = size.tokens() * PACKED_CHANNELS;
        let mut values: Vec<f32> = Vec::with_capacity(count * each);
        for picture in 0..count as u64 {
            let rng = ChaCha8Rng::seed_from_u64(seed.wrapping_add(picture));
            values.extend(Distribution::<f32>::sample_iter(StandardNormal, rng).take(each));
        }
        Ok(Self(Tensor::from_vec(values, (count, size.tokens(), PACKED_CHANNELS), device)?))
    }
}
