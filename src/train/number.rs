//! A number of a training step: known to the host, or on its way from a GPU.

use crate::Result;
use candle_core::Tensor;
use engine::device::Readback;

pub enum Number {
    Known(f64),
    Coming(Readback),
}

impl Number {
    /// Of a tensor of one element; does not wait for it.
    pub fn of(value: &Tensor) -> Result<Self> {
        let value = Readback::of(value)?;
        Ok(if value.is_there() { Self::Known(f64::from(value.wait()?[0])) } else { Self::Coming(value) })
    }

    pub fn is_there(&self) -> bool {
        match self {
            Self::Known(_) => true,
            Self::Coming(value) => value.is_there(),
        }
    }

    pub fn wait(self) -> Result<f64> {
        match self {
            Self::Known(value) => Ok(value),
            Self::Coming(value) => Ok(f64::from(value.wait()?[0])),
        }
    }
}
