//! The signed dynamic code of Dettmers et al. 2021 (arXiv 2110.02861), which holds NF4's absmax in 8 bits.

/// Its 256 values, ascending, from -1 to 1: zero, one, and for each exponent the middles of 2^exponent equal parts of 0.1..1.
pub fn signed() -> [f32; 256] {
    const EXPONENTS: i32 = 7;
    let mut values = vec![0.0f32, 1.0];
    for exponent in 0..EXPONENTS {
        let parts = 1 << exponent;
        for part in 0..parts {
            let middle = 0.1 + 0.9 * (f64::from(part) + 0.5) / f64::from(parts);
            let value = (10f64.powi(exponent - (EXPONENTS - 1)) * middle) as f32;
            values.extend([value, -value]);
        }
    }
    values.sort_by(f32::total_cmp);
    values.try_into().expect("2 + 2·127 values")
}
