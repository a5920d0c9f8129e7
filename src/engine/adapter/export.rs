//! A file for other programs, read back and compared before anybody gets it.

use super::{Adapter, Target};
use crate::{Error, Result};
use candle_core::Device;
use std::collections::BTreeSet;

/// A file that says the same as the adapter it was made of.
pub struct Export {
    pub bytes: Vec<u8>,
    /// Layers whose ΔW was compared.
    pub modules: usize,
    /// The largest difference of an element, over the largest element of its ΔW.
    pub difference: f64,
}

/// ΔW in f32, added up in another order.
const MOST: f64 = 1e-5;

impl Adapter {
    /// The file, once every layer's ΔW was found in it again. What cannot be said exactly is refused.
    pub fn export(&self, target: Target) -> Result<Export> {
        let bytes = self.to_bytes(target)?;
        let again = Self::from_bytes(&self.name, &bytes, &Device::Cpu)?;
        let paths: BTreeSet<&String> = self.modules.keys().chain(again.modules.keys()).collect();
        let mut difference = 0f64;
        for path in &paths {
            let found = self.difference(&again, path)?;
            if found > MOST {
                let problem = format!("written as {target} and read again, {path} differs by {found:.1e} of its size; nothing was written");
                return Err(Error::adapter(&self.name, problem));
            }
            difference = difference.max(found);
        }
        Ok(Export { bytes, modules: paths.len(), difference })
    }

    /// Of a module's ΔW here and there; a module that is not there is one of zeros.
    fn difference(&self, other: &Self, path: &str) -> Result<f64> {
        let matrix = |adapter: &Self| match adapter.modules.get(path) {
            Some(delta) => Ok::<_, Error>(Some(delta.update.matrix()?.to_device(&Device::Cpu)?)),
            None => Ok(None),
        };
        let largest = |matrix: &candle_core::Tensor| Ok::<_, Error>(f64::from(matrix.abs()?.max_all()?.to_scalar::<f32>()?));
        match (matrix(self)?, matrix(other)?) {
            (Some(one), Some(other)) if one.dims() == other.dims() => {
                let (difference, size) = (largest(&(&one - &other)?)?, largest(&one)?.max(largest(&other)?));
                Ok(if size == 0.0 { 0.0 } else { difference / size })
            }
            (Some(only), None) | (None, Some(only)) => Ok(if largest(&only)? == 0.0 { 0.0 } else { 1.0 }),
            _ => Ok(f64::INFINITY),
        }
    }
}
