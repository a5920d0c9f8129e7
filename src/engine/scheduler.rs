//! FlowMatchEulerDiscreteScheduler: sigmas with dynamic shift.

use crate::{Result, Size};
use std::path::Path;

#[derive(Clone, Debug)]
pub struct Scheduler {
    // base_image_seq_len, base_shift, max_image_seq_len, max_shift, num_train_timesteps, shift, use_dynamic_shifting …
}

impl Scheduler {
    pub fn load(model: &Path) -> Result<Self> {
        todo!()
    }

    /// mu for a picture size (linear in its token count).
    pub fn mu(&self, size: Size) -> f64 {
        todo!()
    }

    /// `steps` + 1 sigmas from 1 (or the shifted start) down to the final 0.
    pub fn sigmas(&self, steps: usize, size: Size) -> Vec<f64> {
        todo!()
    }
}
