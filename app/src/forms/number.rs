//! Numbers as people type them: empty means "as it is", a comma may stand for the point, anything else gets a sentence.

use crate::api::{ApiError, ApiResult};
use crate::format;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A whole number within `allowed`; `None` when nothing was typed.
pub fn whole<T: FromStr + PartialOrd + Display>(name: &str, typed: &str, allowed: RangeInclusive<T>) -> ApiResult<Option<T>> {
    let typed = typed.trim();
    if typed.is_empty() {
        return Ok(None);
    }
    match typed.parse() {
        Ok(value) if allowed.contains(&value) => Ok(Some(value)),
        _ => Err(refusal(name, "a whole number", typed, allowed.start(), allowed.end())),
    }
}

/// A number within `allowed`; `None` when nothing was typed.
pub fn real(name: &str, typed: &str, allowed: RangeInclusive<f64>) -> ApiResult<Option<f64>> {
    let typed = typed.trim();
    if typed.is_empty() {
        return Ok(None);
    }
    match typed.replace(',', ".").parse() {
        // NaN lies in no range.
        Ok(value) if allowed.contains(&value) => Ok(Some(value)),
        _ => Err(refusal(name, "a number", typed, &format::number(*allowed.start()), &format::number(*allowed.end()))),
    }
}

fn refusal(name: &str, kind: &str, typed: &str, low: &impl Display, high: &impl Display) -> ApiError {
    let shown: String = typed.chars().take(40).collect();
    ApiError::new(422, format!("{name} must be {kind} from {low} to {high}; “{shown}” is not."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_is_no_number_and_nonsense_is_refused_with_its_limits() {
        assert_eq!(whole("Steps", "  ", 1..=100u32), Ok(None));
        assert_eq!(whole("Steps", " 20 ", 1..=100u32), Ok(Some(20)));
        for typed in ["0", "101", "2.5", "-1", "twenty", "99999999999999999999"] {
            let message = whole("Steps", typed, 1..=100u32).unwrap_err().message;
            assert_eq!(message, format!("Steps must be a whole number from 1 to 100; “{typed}” is not."));
        }
    }

    #[test]
    fn decimals_take_comma_or_point_but_not_nan() {
        assert_eq!(real("Guidance", "3,5", 0.0..=20.0), Ok(Some(3.5)));
        for typed in ["NaN", "inf", "-0.1", "20.5", "1.2.3"] {
            assert!(real("Guidance", typed, 0.0..=20.0).is_err(), "{typed}");
        }
    }
}
