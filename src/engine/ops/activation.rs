//! What a product reads: rows of values, in fp8 too where a weight multiplies in fp8.

use crate::Result;
use candle_core::{Shape, Tensor, bail};
use std::ops::BitOr;

/// Rows of values, [.., C], in the forms that their readers asked for.
#[derive(Clone, Debug)]
pub struct Activation {
    values: Option<Tensor>,
    fp8: Option<Fp8>,
}

/// An fp8 matrix on a GPU.
#[derive(Clone, Debug)]
pub struct Fp8 {
    /// [.., C] e4m3
    pub data: Tensor,
    /// One f32 for each row.
    pub scale: Tensor,
}

/// The forms that readers ask for: an operation that feeds a product writes what the product will read, and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reads {
    pub values: bool,
    pub fp8: bool,
}

impl Reads {
    pub const VALUES: Self = Self { values: true, fp8: false };
    pub const FP8: Self = Self { values: false, fp8: true };
}

impl BitOr for Reads {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self { values: self.values || other.values, fp8: self.fp8 || other.fp8 }
    }
}

impl Activation {
    /// At least one form.
    pub(super) fn new(values: Option<Tensor>, fp8: Option<Fp8>) -> Self {
        debug_assert!(values.is_some() || fp8.is_some());
        Self { values, fp8 }
    }

    pub fn values(&self) -> Result<&Tensor> {
        match &self.values {
            Some(values) => Ok(values),
            None => Ok(no_values()?),
        }
    }

    pub fn fp8(&self) -> Option<&Fp8> {
        self.fp8.as_ref()
    }

    pub fn shape(&self) -> &Shape {
        match (&self.values, &self.fp8) {
            (Some(values), _) => values.shape(),
            (None, Some(fp8)) => fp8.data.shape(),
            (None, None) => unreachable!("an activation has a form"),
        }
    }
}

fn no_values<T>() -> candle_core::Result<T> {
    bail!("these rows were made in fp8 alone: whoever reads their values has to ask for them")
}

impl From<&Tensor> for Activation {
    fn from(values: &Tensor) -> Self {
        Self::new(Some(values.clone()), None)
    }
}

impl From<Tensor> for Activation {
    fn from(values: Tensor) -> Self {
        Self::new(Some(values), None)
    }
}
