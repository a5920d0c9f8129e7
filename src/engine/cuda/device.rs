//! Opening a GPU and asking it about itself.

use candle_core::cuda_backend::cudarc::driver::{result::mem_pool, sys};
use candle_core::{CudaDevice, Device, Error, Result};
use std::ptr::from_mut;

/// Device memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Of the whole device, as `cuMemGetInfo` tells it: what the pool keeps for reuse does not count as free.
    pub free: usize,
    pub total: usize,
    /// Of the stream-ordered pool that every tensor comes from: in use now, and at most since [`reset_memory_peak`].
    pub used: usize,
    pub peak: usize,
    /// What the pool holds, in use or kept for reuse: the driver's `free` leaves all of it out.
    pub reserved: usize,
}

/// What a GPU is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub name: String,
    /// (9, 0) for an H100.
    pub compute_capability: (i32, i32),
    pub multiprocessors: usize,
}

/// Opens GPU `ordinal` with ONE stream for all threads. (candle's `Device::new_cuda` has one per thread, and then what one thread
/// queued need not have happened when another reads it.) Freed memory stays in the pool, and cudarc's event tracking, two events an
/// allocation, is off.
///
/// # Errors
/// No such GPU, or one below compute capability 8.0.
pub fn open(ordinal: usize) -> Result<Device> {
    let device = Device::new_cuda_with_stream(ordinal)?;
    let cuda = device.as_cuda_device()?;
    // SAFETY: all work is on the device's one stream, in order.
    unsafe { cuda.disable_event_tracking() };
    let mut keep_all = u64::MAX;
    // SAFETY: the attribute is a u64.
    unsafe {
        mem_pool::set_attribute(pool(cuda)?, sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, from_mut(&mut keep_all).cast())
    }
    .map_err(Error::wrap)?;
    super::context::Context::of(cuda)?;
    Ok(device)
}

/// Name and compute capability.
pub fn describe(device: &CudaDevice) -> Result<Description> {
    let stream = device.cuda_stream();
    let context = stream.context();
    let multiprocessors = context.attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT).map_err(Error::wrap)?;
    Ok(Description {
        name: context.name().map_err(Error::wrap)?,
        compute_capability: context.compute_capability().map_err(Error::wrap)?,
        multiprocessors: multiprocessors as usize,
    })
}

/// Free, total, used and peak bytes. Does not wait for the stream.
pub fn memory(device: &CudaDevice) -> Result<Memory> {
    let (free, total) = device.cuda_stream().context().mem_get_info().map_err(Error::wrap)?;
    Ok(Memory {
        free,
        total,
        used: pool_bytes(device, sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?,
        peak: pool_bytes(device, sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)?,
        reserved: pool_bytes(device, sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?,
    })
}

/// Waits for the stream, then gives back to the driver what the pool keeps for reuse.
pub fn trim(device: &CudaDevice) -> Result<()> {
    device.cuda_stream().synchronize().map_err(Error::wrap)?;
    // SAFETY: the pool is the device's own, and nothing that is in use is given back.
    unsafe { sys::cuMemPoolTrimTo(pool(device)?, 0) }.result().map_err(Error::wrap)
}

/// Sets [`Memory::peak`] to what is in use now.
pub fn reset_memory_peak(device: &CudaDevice) -> Result<()> {
    let mut zero = 0u64;
    // SAFETY: the attribute is a u64, and zero is what resets it.
    unsafe { mem_pool::set_attribute(pool(device)?, sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, from_mut(&mut zero).cast()) }
        .map_err(Error::wrap)
}

fn pool_bytes(device: &CudaDevice, attribute: sys::CUmemPool_attribute) -> Result<usize> {
    let mut bytes = 0u64;
    // SAFETY: every attribute asked for is a u64.
    unsafe { mem_pool::get_attribute(pool(device)?, attribute, from_mut(&mut bytes).cast()) }.map_err(Error::wrap)?;
    Ok(bytes as usize)
}

/// The pool that `cuMemAllocAsync`, and so every tensor, draws from.
fn pool(device: &CudaDevice) -> Result<sys::CUmemoryPool> {
    let stream = device.cuda_stream();
    stream.context().bind_to_thread().map_err(Error::wrap)?;
    let mut pool = std::ptr::null_mut();
    // SAFETY: the device exists for as long as its context, which `stream` holds.
    unsafe { sys::cuDeviceGetDefaultMemPool(&mut pool, stream.context().cu_device()) }.result().map_err(Error::wrap)?;
    Ok(pool)
}
