//! Eight-bit numbers in blocks of 256 with a scale each (Dettmers et al. 2021, arXiv 2110.02861: blockwise dynamic quantisation).

use std::sync::LazyLock;

/// Elements that share a scale.
pub const BLOCK: usize = 256;

/// The 256 values of a code, ascending, from -1 (or 0) to 1: the exponent takes as many bits as it needs, the fraction the rest,
/// so that small and large magnitudes are both met.
pub struct Code {
    values: [f32; 256],
    /// The smallest code of a value above zero.
    first_positive: u8,
}

pub static SIGNED: LazyLock<Code> = LazyLock::new(|| Code::dynamic(true));
pub static UNSIGNED: LazyLock<Code> = LazyLock::new(|| Code::dynamic(false));

impl Code {
    fn dynamic(signed: bool) -> Self {
        const EXPONENTS: u32 = 7;
        let mut values = vec![0.0, 1.0];
        for exponent in 0..EXPONENTS {
            let fractions = 1u32 << if signed { exponent } else { exponent + 1 };
            let magnitude = 10f64.powi(exponent as i32 - (EXPONENTS as i32 - 1));
            for fraction in 0..fractions {
                // The middle of one of `fractions` equal parts of 0.1..1.
                let value = (magnitude * (0.1 + 0.9 * (f64::from(fraction) + 0.5) / f64::from(fractions))) as f32;
                values.push(value);
                if signed {
                    values.push(-value);
                }
            }
        }
        values.sort_by(f32::total_cmp);
        let first_positive = values.partition_point(|&value| value <= 0.0) as u8;
        Self { values: values.try_into().expect("2 + 2·127 values"), first_positive }
    }

    /// All of them, ascending.
    pub fn values(&self) -> &[f32; 256] {
        &self.values
    }

    pub fn value(&self, code: u8) -> f32 {
        self.values[usize::from(code)]
    }

    /// The code of the nearest value to `x` in -1..=1.
    pub fn nearest(&self, x: f32) -> u8 {
        let above = self.values.partition_point(|&value| value < x).min(255);
        let below = above.saturating_sub(1);
        let nearest = if x - self.values[below] <= self.values[above] - x { below } else { above };
        nearest as u8
    }

    /// The nearest, but never zero for what is not zero: a second moment that vanishes under its square root would make the step explode.
    pub fn nearest_above_zero(&self, x: f32) -> u8 {
        if x > 0.0 { self.nearest(x).max(self.first_positive) } else { self.nearest(x) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_papers() {
        for (code, zero, smallest) in [(&*SIGNED, 127, 5.5e-7), (&*UNSIGNED, 0, 3.25e-7)] {
            assert_eq!(code.value(zero), 0.0);
            assert_eq!(code.value(255), 1.0);
            assert!((code.value(code.first_positive) - smallest).abs() < 1e-9);
            assert!(code.values.is_sorted());
        }
        // The largest fractions: 0.1..1 in 64 and in 128 parts.
        assert!((SIGNED.value(254) - 0.992_968_7).abs() < 1e-6);
        assert!((UNSIGNED.value(254) - 0.996_484_4).abs() < 1e-6);
    }

    #[test]
    fn every_value_is_its_own_nearest_and_the_error_is_small() {
        for code in 0..=255u8 {
            assert_eq!(SIGNED.value(SIGNED.nearest(SIGNED.value(code))), SIGNED.value(code));
        }
        for i in 0..10_000 {
            let x = i as f32 / 10_000.0;
            assert!((UNSIGNED.value(UNSIGNED.nearest(x)) - x).abs() <= 0.0036 + 0.05 * x);
        }
        assert!(UNSIGNED.nearest_above_zero(1e-12) > 0);
        assert_eq!(UNSIGNED.nearest_above_zero(0.0), 0);
    }
}
