//! Four-bit NormalFloat (Dettmers et al. 2023, arXiv 2305.14314): blocks of 64 values between −1 and 1 times the block's largest magnitude,
//! which is itself held in eight bits (double quantisation). Laid out as bitsandbytes does: two codes a byte, the first in the high half.

use super::dynamic::{self, SIGNED};
use rayon::prelude::*;

/// Values that share a largest magnitude.
pub const BLOCK: usize = 64;

/// Quantiles of a normal distribution, from −1 to 1 (appendix E of the paper).
pub const VALUES: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// A tensor in four bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Nf4 {
    /// [n/2]
    pub codes: Vec<u8>,
    pub absmax: Absmax,
}

/// The largest magnitude of each block: code's value · scale of its 256 + offset.
#[derive(Clone, Debug, PartialEq)]
pub struct Absmax {
    /// [n/64] in the signed dynamic code
    pub codes: Vec<u8>,
    /// [n/64/256, rounded up]
    pub scales: Vec<f32>,
    /// The mean of all.
    pub offset: f32,
}

impl Nf4 {
    /// `values`: a multiple of [`BLOCK`].
    pub fn quantise(values: &[f32]) -> Self {
        let mut codes = vec![0; values.len() / 2];
        let blocks = values.par_chunks_exact(BLOCK).zip(codes.par_chunks_exact_mut(BLOCK / 2));
        let absmax: Vec<f32> = blocks.map(|(values, codes)| quantise_block(values, codes)).collect();
        Self { codes, absmax: Absmax::quantise(&absmax) }
    }

    pub fn dequantise(&self) -> Vec<f32> {
        let blocks = self.codes.par_chunks_exact(BLOCK / 2).zip(self.absmax.dequantise());
        let pair = |most: f32| move |&byte: &u8| [byte >> 4, byte & 15].map(|code| VALUES[usize::from(code)] * most);
        blocks.flat_map_iter(|(codes, most)| codes.iter().flat_map(pair(most))).collect()
    }
}

/// Returns the block's largest magnitude.
fn quantise_block(values: &[f32], codes: &mut [u8]) -> f32 {
    let most = values.iter().fold(0f32, |most, x| most.max(x.abs()));
    let inverse = if most > 0.0 { 1.0 / most } else { 0.0 };
    for (byte, pair) in codes.iter_mut().zip(values.as_chunks::<2>().0) {
        let [first, second] = pair.map(|x| code(x * inverse));
        *byte = first << 4 | second;
    }
    most
}

/// The nearest value's; of two equally near the lower one's.
fn code(x: f32) -> u8 {
    VALUES.windows(2).filter(|pair| f64::from(x) > (f64::from(pair[0]) + f64::from(pair[1])) / 2.0).count() as u8
}

impl Absmax {
    fn quantise(absmax: &[f32]) -> Self {
        let offset = (absmax.iter().map(|&x| f64::from(x)).sum::<f64>() / absmax.len() as f64) as f32;
        let (mut codes, mut scales) = (Vec::with_capacity(absmax.len()), Vec::new());
        for block in absmax.chunks(dynamic::BLOCK) {
            let most = block.iter().fold(0f32, |most, x| most.max((x - offset).abs()));
            codes.extend(block.iter().map(|x| SIGNED.nearest(if most > 0.0 { (x - offset) / most } else { 0.0 })));
            scales.push(most);
        }
        Self { codes, scales, offset }
    }

    fn dequantise(&self) -> Vec<f32> {
        let value = |(index, &code): (usize, &u8)| SIGNED.value(code) * self.scales[index / dynamic::BLOCK] + self.offset;
        self.codes.iter().enumerate().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::numbers;
    use proptest::prelude::*;

    /// The value nearest to x among all sixteen.
    fn nearest(x: f32) -> f32 {
        VALUES.into_iter().min_by(|a, b| (a - x).abs().total_cmp(&(b - x).abs())).unwrap()
    }

    #[test]
    fn every_value_is_its_own_code() {
        assert!(VALUES.is_sorted());
        assert!((0..16).all(|i| code(VALUES[i]) == i as u8));
        assert_eq!((code(-2.0), code(2.0), code(f32::NAN)), (0, 15, 0));
    }

    #[test]
    fn the_first_of_a_pair_is_in_the_high_half() {
        let mut values = [0.0; BLOCK];
        (values[0], values[3]) = (1.0, -1.0);
        let codes = Nf4::quantise(&values).codes;
        assert_eq!(codes[..2], [0xf7, 0x70]);
        assert!(codes[2..].iter().all(|&byte| byte == 0x77));
    }

    proptest! {
        #[test]
        fn codes_are_of_the_nearest_value(x in -1.1f32..1.1) {
            prop_assert_eq!((VALUES[usize::from(code(x))] - x).abs(), (nearest(x) - x).abs());
        }

        /// Block by block, with what is known of eight-bit magnitudes: an error of one part in a hundred of the largest difference from the mean.
        #[test]
        fn values_come_back_near(seed in 0u64..1000, blocks in 1usize..600, size in 1e-3f32..1e3) {
            let values: Vec<f32> = numbers(seed, blocks * BLOCK).into_iter().map(|x| x * size).collect();
            let quantised = Nf4::quantise(&values);
            let absmax = quantised.absmax.dequantise();
            let most = |block: &[f32]| block.iter().fold(0f32, |most, x| most.max(x.abs()));
            for (index, (block, back)) in values.chunks(BLOCK).zip(quantised.dequantise().chunks(BLOCK)).enumerate() {
                let scale = quantised.absmax.scales[index / dynamic::BLOCK];
                prop_assert!((absmax[index] - most(block)).abs() <= 0.0075 * scale + 1e-6 * size, "{} became {}", most(block), absmax[index]);
                for (x, back) in block.iter().zip(back) {
                    // As near as any; halfway between two values, rounding decides which of them it is.
                    let (x, back) = (x / most(block), back / absmax[index]);
                    prop_assert!((back - x).abs() <= (nearest(x) - x).abs() + 1e-5, "{x} became {back}");
                }
            }
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        assert!(Nf4::quantise(&[0.0; 2 * BLOCK]).dequantise().iter().all(|&x| x == 0.0));
    }
}
