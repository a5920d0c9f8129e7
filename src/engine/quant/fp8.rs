//! fp8 e4m3 (Micikevicius et al. 2022, arXiv 2209.05433): four bits of exponent, three of fraction, no infinities; a scale for each row.

use rayon::prelude::*;

/// The largest finite value.
pub const LARGEST: f32 = 448.0;

/// A matrix in fp8: value = scale of its row · code.
#[derive(Clone, Debug, PartialEq)]
pub struct Fp8Rows {
    pub width: usize,
    /// [rows · width]
    pub codes: Vec<u8>,
    /// [rows]: the largest magnitude of each row over [`LARGEST`]; 1 for a row of zeros.
    pub scales: Vec<f32>,
}

impl Fp8Rows {
    /// values: [rows, width]
    pub fn quantise(values: &[f32], width: usize) -> Self {
        let (mut codes, mut scales) = (vec![0; values.len()], vec![1.0; values.len() / width]);
        let rows = values.par_chunks_exact(width).zip(codes.par_chunks_exact_mut(width)).zip(&mut scales);
        rows.for_each(|((values, codes), scale)| {
            let most = values.iter().fold(0f32, |most, x| most.max(x.abs()));
            if most > 0.0 {
                *scale = most / LARGEST;
            }
            let factor = 1.0 / *scale;
            codes.iter_mut().zip(values).for_each(|(code, x)| *code = encode(x * factor));
        });
        Self { width, codes, scales }
    }

    /// [rows, width]
    pub fn dequantise(&self) -> Vec<f32> {
        let rows = self.codes.par_chunks_exact(self.width).zip(&self.scales);
        rows.flat_map_iter(|(codes, scale)| codes.iter().map(move |&code| decode(code) * scale)).collect()
    }
}

/// Below 2⁻⁶ codes are 2⁻⁹ apart.
const SMALLEST_NORMAL: f32 = 0.015_625;
const SUBNORMAL: f32 = 512.0;
/// Bits of an f32's fraction that e4m3 has no room for.
const DROPPED: u32 = 20;
/// The difference of the exponents' biases, 127 − 7, where e4m3 has its exponent.
const REBIAS: u32 = 120 << 3;

/// To the nearest, of two equally near to the even one; beyond the largest to the largest. NaN stays NaN.
pub fn encode(x: f32) -> u8 {
    let sign = (x.to_bits() >> 24) as u8 & 0x80;
    if x.is_nan() {
        return sign | 0x7f;
    }
    let magnitude = x.abs().min(LARGEST);
    if magnitude < SMALLEST_NORMAL {
        return sign | (magnitude * SUBNORMAL).round_ties_even() as u8;
    }
    let bits = magnitude.to_bits();
    let half_less_one = (1 << (DROPPED - 1)) - 1;
    let rounded = (bits + half_less_one + (bits >> DROPPED & 1)) >> DROPPED;
    sign | (rounded - REBIAS) as u8
}

pub fn decode(code: u8) -> f32 {
    let sign = u32::from(code & 0x80) << 24;
    let magnitude = u32::from(code & 0x7f);
    let value = match magnitude {
        0x7f => f32::NAN,
        0..8 => magnitude as f32 / SUBNORMAL,
        _ => f32::from_bits((magnitude + REBIAS) << DROPPED),
    };
    f32::from_bits(value.to_bits() | sign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};
    use proptest::prelude::*;

    /// The value of a code from the standard's formula.
    fn value(code: u8) -> f64 {
        let (sign, exponent, fraction) = (if code > 127 { -1.0 } else { 1.0 }, i32::from(code >> 3 & 15), f64::from(code & 7) / 8.0);
        sign * if exponent == 0 { fraction * 2f64.powi(-6) } else { (1.0 + fraction) * 2f64.powi(exponent - 7) }
    }

    fn finite() -> impl Iterator<Item = u8> {
        (0..=255).filter(|code| code & 0x7f != 0x7f)
    }

    #[test]
    fn codes_have_the_values_of_the_formula() {
        assert!(finite().all(|code| f64::from(decode(code)) == value(code)));
        assert!(decode(0x7f).is_nan() && decode(0xff).is_nan());
        assert_eq!(decode(0x7e), LARGEST);
    }

    #[test]
    fn every_value_is_its_own_code() {
        assert!(finite().all(|code| encode(decode(code)) == code));
        assert_eq!((encode(1e9), encode(f32::NEG_INFINITY), encode(449.0)), (0x7e, 0xfe, 0x7e));
        assert!(decode(encode(f32::NAN)).is_nan());
    }

    proptest! {
        /// Against a search through all codes, and against candle's own type.
        #[test]
        fn encoding_is_to_the_nearest_even(x in prop_oneof![-500f32..500.0, -0.1f32..0.1, (0u32..2048).prop_map(|i| i as f32 / 1024.0)]) {
            let distance = |code: u8| (value(code) - f64::from(x)).abs();
            let least = finite().map(distance).fold(f64::INFINITY, f64::min);
            let nearest: Vec<u8> = finite().filter(|&code| distance(code) == least).collect();
            let code = encode(x);
            prop_assert_eq!(distance(code), least);
            // Of two neighbours one is even; 0 and -0 are two codes of one value.
            prop_assert!(nearest.len() == 1 || code & 1 == 0 || code & 0x7f == 0);
            let theirs = Tensor::new(x, &Device::Cpu).and_then(|x| x.to_dtype(DType::F8E4M3)?.to_dtype(DType::F32)?.to_scalar::<f32>());
            prop_assert_eq!(decode(code), theirs.unwrap());
        }

        #[test]
        fn rows_come_back_within_a_sixteenth(seed in 0u64..1000, width in 1usize..40, size in 1e-4f32..1e4) {
            let values: Vec<f32> = crate::ops::testing::numbers(seed, 3 * width).into_iter().map(|x| x * size).collect();
            let rows = Fp8Rows::quantise(&values, width);
            for ((back, x), row) in rows.dequantise().iter().zip(&values).zip((0..3 * width).map(|at| at / width)) {
                // Half a unit in the last of three places, or half the step of the smallest codes.
                prop_assert!((back - x).abs() <= x.abs() / 16.0 * 1.001 + rows.scales[row] / 1024.0, "{x} became {back}");
            }
            let most = |row: usize| values[row * width..][..width].iter().fold(0f32, |most, x| most.max(x.abs()));
            prop_assert!((0..3).all(|row| (rows.scales[row] * LARGEST - most(row)).abs() <= 1e-6 * most(row)));
        }
    }

    #[test]
    fn a_row_of_zeros_stays_zero() {
        let rows = Fp8Rows::quantise(&[0.0; 8], 4);
        assert_eq!((rows.scales.as_slice(), rows.dequantise()), (&[1.0; 2][..], vec![0.0; 8]));
    }
}
