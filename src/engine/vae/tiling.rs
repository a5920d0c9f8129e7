//! Decoding in overlapping tiles, faded into each other, for pictures whose feature maps do not fit the memory.
//!
//! diffusers `models/autoencoders/autoencoder_kl.py`: `tiled_decode`, `blend_v`, `blend_h`. A tile knows nothing of the picture outside it
//! (group norm and attention take their statistics from the tile alone), so tiles differ a little where they meet; the fade hides the edge.

use crate::Result;
use candle_core::{Device, Tensor};

/// Sides in latents; a latent is 8 pixels.
#[derive(Clone, Copy, Debug)]
pub struct Tiling {
    side: usize,
    /// How far a tile reaches into the next one.
    overlap: usize,
}

/// Tiles of 512 pixels: a quarter of the memory that 1024×1024 pixels need at once.
impl Default for Tiling {
    fn default() -> Self {
        Self::new(64)
    }
}

/// Pixels along a side of a latent.
const PIXELS: usize = 8;

impl Tiling {
    /// Tiles of `side` latents, a quarter of which lies under the next tile, as in diffusers.
    pub fn new(side: usize) -> Self {
        Self { side, overlap: side / 4 }
    }

    /// z: [1, 16, h, w] → [1, 3, 8·h, 8·w]
    pub fn decode(self, z: &Tensor, decode: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let (_, _, h, w) = z.dims4()?;
        let mut above: Option<Vec<Tensor>> = None;
        let mut lines = Vec::new();
        for y in self.starts(h) {
            let mut tiles: Vec<Tensor> = Vec::new();
            for (column, x) in self.starts(w).into_iter().enumerate() {
                let mut tile = decode(&self.cut(&self.cut(z, 2, y)?, 3, x)?.contiguous()?)?;
                if let Some(above) = &above {
                    tile = self.fade(&above[column], &tile, 2)?;
                }
                if let Some(left) = tiles.last() {
                    tile = self.fade(left, &tile, 3)?;
                }
                tiles.push(tile);
            }
            lines.push(self.line(&tiles, h - y)?);
            above = Some(tiles);
        }
        Ok(Tensor::cat(&lines, 2)?)
    }

    /// Where tiles begin along a side. The last is the first to reach the end.
    fn starts(self, side: usize) -> Vec<usize> {
        let step = self.side - self.overlap;
        let reaching = side.saturating_sub(self.side).div_ceil(step);
        (0..=reaching).map(|i| i * step).collect()
    }

    fn cut(self, z: &Tensor, axis: usize, start: usize) -> Result<Tensor> {
        Ok(z.narrow(axis, start, self.side.min(z.dim(axis)? - start))?)
    }

    /// `tile`, whose first rows (or columns) turn from those of `before` into its own.
    fn fade(self, before: &Tensor, tile: &Tensor, axis: usize) -> Result<Tensor> {
        let extent = (PIXELS * self.overlap).min(before.dim(axis)?).min(tile.dim(axis)?);
        let share = ramp(extent, axis, tile.device())?;
        let (old, new) = (before.narrow(axis, before.dim(axis)? - extent, extent)?, tile.narrow(axis, 0, extent)?);
        let faded = (old.broadcast_mul(&share.affine(-1.0, 1.0)?)? + new.broadcast_mul(&share)?)?;
        Ok(Tensor::cat(&[faded, tile.narrow(axis, extent, tile.dim(axis)? - extent)?], axis)?)
    }

    /// Tiles side by side, each without what the next one (and the next line) shows. `left`: latents from here to the picture's end.
    fn line(self, tiles: &[Tensor], left: usize) -> Result<Tensor> {
        let (step, last) = (PIXELS * (self.side - self.overlap), tiles.len() - 1);
        let shown = |(i, tile): (usize, &Tensor)| if i == last { Ok(tile.clone()) } else { tile.narrow(3, 0, step) };
        let line = Tensor::cat(&tiles.iter().enumerate().map(shown).collect::<candle_core::Result<Vec<_>>>()?, 3)?;
        Ok(if left > self.side { line.narrow(2, 0, step)? } else { line })
    }
}

/// 0, 1/n, … (n-1)/n along an axis of [1, 3, H, W].
fn ramp(extent: usize, axis: usize, device: &Device) -> Result<Tensor> {
    let mut shape = [1; 4];
    shape[axis] = extent;
    let values: Vec<f32> = (0..extent).map(|i| i as f32 / extent as f32).collect();
    Ok(Tensor::from_vec(values, &shape, device)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A decoder without a neighbourhood: every latent becomes 8×8 pixels of its own value.
    fn enlarge(z: &Tensor) -> Result<Tensor> {
        let (_, _, h, w) = z.dims4()?;
        Ok(z.narrow(1, 0, 3)?.contiguous()?.upsample_nearest2d(PIXELS * h, PIXELS * w)?)
    }

    #[test]
    fn tiles_of_every_size_make_up_the_picture() -> Result<()> {
        for (side, h, w) in [(8, 8, 8), (8, 7, 30), (8, 14, 15), (16, 33, 9), (4, 21, 10), (8, 12, 20)] {
            let z = Tensor::randn(0f32, 1.0, (1, 16, h, w), &Device::Cpu)?;
            let (whole, tiled) = (enlarge(&z)?, Tiling::new(side).decode(&z, enlarge)?);
            assert_eq!(tiled.dims(), whole.dims(), "{side} {h} {w}");
            let difference = (whole - tiled)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(difference < 1e-5, "{side} {h} {w}: {difference}");
        }
        Ok(())
    }
}
