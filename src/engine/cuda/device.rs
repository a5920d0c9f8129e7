//! Opening a GPU and asking it about itself.

use candle_core::{CudaDevice, Device, Result};

/// Device memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Of the whole device, as `cuMemGetInfo` tells it: what the pool keeps for reuse does not count as free.
    pub free: usize,
    pub total: usize,
    /// Of the stream-ordered pool that every tensor comes from: in use now, and at most since [`reset_memory_peak`].
    pub used: usize,
    pub peak: usize,
}

/// What a GPU is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub name: String,
    /// (9, 0) for an H100.
    pub compute_capability: (i32, i32),
    pub multiprocessors: usize,
}

/// Opens GPU `ordinal` with ONE stream for all threads (candle's `Device::new_cuda` has one per thread, and then what one thread
/// queued may not be there when another reads it). Freed memory stays in the pool, and cudarc's event tracking, two events an allocation,
/// is off.
///
/// # Errors
/// No such GPU, or one below compute capability 8.0.
pub fn open(ordinal: usize) -> Result<Device>;

/// Name and compute capability.
pub fn describe(device: &CudaDevice) -> Result<Description>;

/// Free, total, used and peak bytes. Does not wait for the stream.
pub fn memory(device: &CudaDevice) -> Result<Memory>;

/// Sets [`Memory::peak`] to what is in use now.
pub fn reset_memory_peak(device: &CudaDevice) -> Result<()>;
