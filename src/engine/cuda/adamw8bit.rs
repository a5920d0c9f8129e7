//! AdamW whose moments take one byte each, in one kernel over a flat buffer (twin: `train::optimizer::AdamW8bit`).

use super::Arg;
use candle_core::{CudaDevice, CudaStorage, Result};

/// AdamW's arithmetic of one step, ready for every element; the fields are those of `train::optimizer::Rule`:
/// p·keep − rate·m / (√v / root + epsilon), where m += (g − m)·new_first and v = v·beta2 + g²·new_second.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub keep: f32,
    pub new_first: f32,
    pub beta2: f32,
    pub new_second: f32,
    pub rate: f32,
    pub root: f32,
    pub epsilon: f32,
}

/// The moments of one tensor on the host, as a checkpoint of a training keeps them.
pub enum Moments {
    /// Of a tensor below 4096 elements.
    Full { first: Vec<f32>, second: Vec<f32> },
    /// Codes, and a scale per block of 256.
    Quantised { first: Vec<u8>, first_scale: Vec<f32>, second: Vec<u8>, second_scale: Vec<f32> },
}

/// The moments of all tensors of a flat buffer, on the device.
pub struct AdamW8bit {}

impl AdamW8bit {
    /// Zero moments. `lengths`: of the tensors in the flat buffer, in order. `codes`: the values of the signed and of the unsigned
    /// dynamic code, ascending (`train::optimizer::quantised`).
    pub fn new(device: &CudaDevice, lengths: &[usize], codes: [&[f32; 256]; 2]) -> Result<Self>;

    /// One step. parameters, gradients: contiguous [n] f32. `clip`: (Σ g² as [`super::reduce::sum_of_squares`] left it, the largest norm allowed):
    /// gradients are scaled by min(1, most / (√Σ + 1e-6)) as they are read, and no host waits for the sum.
    pub fn step(&mut self, rule: Rule, parameters: &mut CudaStorage, gradients: Arg, clip: Option<(&CudaStorage, f32)>) -> Result<()>;

    /// Waits for the stream and reads the moments, tensor by tensor.
    pub fn moments(&self) -> Result<Vec<Moments>>;

    /// Replaces the moments by what [`Self::moments`] returned.
    ///
    /// # Errors
    /// Tensors of other lengths.
    pub fn restore(&mut self, moments: &[Moments]) -> Result<()>;
}
