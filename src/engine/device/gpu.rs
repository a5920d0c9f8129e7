//! An NVIDIA GPU: found, opened, asked for its memory.

use super::{Gpu, Memory};
use crate::{Error, Result, cuda};
use candle_core::{
    CudaDevice, Device,
    cuda_backend::cudarc::driver::{
        CudaContext, DriverError,
        result::device,
        sys::{self, CUdevice_attribute as Attribute},
    },
};

/// Asked of the driver alone: a context would take half a GiB of every card.
pub fn all() -> Vec<Gpu> {
    // No driver, or a driver without a card, is no GPU.
    let count = CudaContext::device_count().unwrap_or(0);
    (0..count as usize).filter_map(|index| look(index).ok()).collect()
}

pub fn of(device: &CudaDevice) -> Result<Gpu> {
    look(device.cuda_stream().context().ordinal()).map_err(failed)
}

/// Free bytes of a GPU that is not open; takes a context for it meanwhile.
pub fn free(index: usize) -> Result<u64> {
    let (free, _) = CudaContext::new(index).and_then(|context| context.mem_get_info()).map_err(failed)?;
    Ok(free as u64)
}

pub fn open(index: usize) -> Result<Device> {
    let gpus = all();
    let Some(gpu) = gpus.iter().find(|gpu| gpu.index == index) else {
        let there = match gpus.len() {
            0 => "this machine has no NVIDIA GPU, or its driver cannot be used".to_owned(),
            1 => "this machine has one GPU, cuda:0".to_owned(),
            count => format!("this machine has {count} GPUs, cuda:0 to cuda:{}", count - 1),
        };
        return Err(Error::invalid(format!("device cuda:{index}: {there}; choose another, or --device cpu")));
    };
    gpu.check()?;
    Ok(cuda::open(index)?)
}

fn look(index: usize) -> std::result::Result<Gpu, DriverError> {
    let device = device::get(index as i32)?;
    // SAFETY: the driver has just given us this device.
    let attribute = |attribute: Attribute| unsafe { device::get_attribute(device, attribute) };
    let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    // SAFETY: as above.
    let total = unsafe { device::total_mem(device) }?;
    Ok(Gpu { index, name: device::get_name(device)?, compute_capability: (major as u32, minor as u32), total_bytes: total as u64 })
}

pub fn memory(device: &CudaDevice) -> Result<Memory> {
    let memory = cuda::memory(device)?;
    let idle = memory.reserved.saturating_sub(memory.used);
    Ok(Memory { total: memory.total as u64, free: (memory.free + idle) as u64 })
}

pub fn peak(device: &CudaDevice) -> Result<u64> {
    Ok(cuda::memory(device)?.peak as u64)
}

/// The kernel module's version and the CUDA that the driver speaks.
pub fn driver() -> Option<String> {
    let mut spoken = 0;
    // SAFETY: the driver writes one integer, and needs no initialisation for it.
    unsafe { sys::cuDriverGetVersion(&mut spoken) }.result().ok()?;
    let cuda = format!("CUDA {}.{}", spoken / 1000, spoken % 1000 / 10);
    let module = std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    let is_version = |word: &&str| word.contains('.') && word.split('.').all(|part| part.parse::<u32>().is_ok());
    Some(match module.split_whitespace().find(is_version) {
        Some(version) => format!("{version}, {cuda}"),
        None => cuda,
    })
}

/// A refusal of the driver as an error of the tensors, from where out-of-memory is told apart.
pub fn failed(error: DriverError) -> Error {
    candle_core::Error::Cuda(Box::new(error)).into()
}
