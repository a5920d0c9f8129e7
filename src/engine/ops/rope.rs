//! Rotary position angles of FLUX: text tokens at the origin, picture tokens at (0, row, column).

use crate::{Result, Size};
use candle_core::{Device, Tensor};

/// cos and sin, [tokens, D/2] in f32, computed in f64 (`FluxPosEmbed`, theta 10000).
#[derive(Clone, Debug)]
pub struct Rope {
    pub cos: Tensor,
    pub sin: Tensor,
}

impl Rope {
    /// Text first, then the picture's rows and columns.
    pub fn new(text_tokens: usize, size: Size, axes: &[usize], device: &Device) -> Result<Self> {
        let (rows, columns) = size.grid();
        let text = std::iter::repeat_n([0, 0, 0], text_tokens);
        let picture = (0..rows).flat_map(|row| (0..columns).map(move |column| [0, row, column]));
        let angles: Vec<f64> = text.chain(picture).flat_map(|position| Self::angles(position, axes)).collect();
        let shape = (text_tokens + size.tokens(), axes.iter().sum::<usize>() / 2);
        let table = |f: fn(f64) -> f64| Tensor::from_vec(angles.iter().map(|&a| f(a) as f32).collect(), shape, device);
        Ok(Self { cos: table(f64::cos)?, sin: table(f64::sin)? })
    }

    fn angles(position: [usize; 3], axes: &[usize]) -> Vec<f64> {
        const THETA: f64 = 10_000.0;
        let frequencies = |width: usize| (0..width / 2).map(move |i| THETA.powf(-2.0 * i as f64 / width as f64));
        position.iter().zip(axes).flat_map(|(&p, &width)| frequencies(width).map(move |f| p as f64 * f)).collect()
    }
}
