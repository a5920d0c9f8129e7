//! Which device works, the CPU or one NVIDIA GPU, and how much memory it has.

#[cfg(feature = "cuda")]
mod gpu;
mod mark;
mod transfer;

pub use mark::Mark;
pub use transfer::{Readback, send};

use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::{fmt, str::FromStr};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// What was asked for: `auto`, `cpu`, or `cuda:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first GPU that can compute in bf16, else the CPU.
    #[default]
    Auto,
    Cpu,
    Cuda(usize),
}

impl Choice {
    /// The device itself. A GPU that is not there, too old, or not built for is refused.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(index) => open(index),
            Self::Auto => match gpus().iter().find(|gpu| gpu.is_new_enough()) {
                Some(gpu) => open(gpu.index),
                None => Ok(Device::Cpu),
            },
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| Error::invalid(format!("device {text:?}: choose auto, cpu, or a GPU by its number, such as cuda:0"))),
        }
    }
}

/// An NVIDIA GPU of this machine.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Gpu {
    pub index: usize,
    pub name: String,
    /// Major and minor.
    pub compute_capability: (u32, u32),
    pub total_bytes: u64,
}

impl Gpu {
    /// From where on the tensor cores take bf16.
    const LEAST_CAPABILITY: (u32, u32) = (8, 0);

    pub fn is_new_enough(&self) -> bool {
        self.compute_capability >= Self::LEAST_CAPABILITY
    }

    /// Whether its tensor cores multiply e4m3: Ada and Hopper.
    pub fn has_fp8(&self) -> bool {
        self.compute_capability >= (8, 9)
    }

    /// Refuses one that cannot compute in bf16.
    pub fn check(&self) -> Result<()> {
        if self.is_new_enough() {
            return Ok(());
        }
        let ((major, minor), (least, _)) = (self.compute_capability, Self::LEAST_CAPABILITY);
        Err(Error::invalid(format!(
            "device cuda:{}: {} has compute capability {major}.{minor}, and bf16 needs {least}.0 or more (A100, L4, RTX 30 and newer); choose \
             another GPU or --device cpu",
            self.index, self.name
        )))
    }
}

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Memory {
    pub total: u64,
    /// What new tensors may take: on a GPU with what its pool keeps ready, on the CPU within the limits of a container.
    pub free: u64,
}

/// The GPUs that this build can see: none without the feature `cuda` or without a driver.
pub fn gpus() -> Vec<Gpu> {
    #[cfg(feature = "cuda")]
    return gpu::all();
    #[cfg(not(feature = "cuda"))]
    Vec::new()
}

/// Whether this build can use a GPU at all.
pub const fn is_built_for_gpus() -> bool {
    cfg!(feature = "cuda")
}

/// The GPU behind a device; `None` for the CPU.
pub fn gpu_of(device: &Device) -> Result<Option<Gpu>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => gpu::of(device).map(Some),
        _ => Ok(None),
    }
}

/// Free bytes of a GPU that this process has not opened.
pub fn free_on(gpu: &Gpu) -> Result<u64> {
    #[cfg(feature = "cuda")]
    return gpu::free(gpu.index);
    #[cfg(not(feature = "cuda"))]
    Err(Error::invalid(format!("cuda:{} cannot be asked: this Atelier was built without GPUs", gpu.index)))
}

/// The driver's version, such as `580.95.05, CUDA 13.0`.
pub fn driver() -> Option<String> {
    #[cfg(feature = "cuda")]
    return gpu::driver();
    #[cfg(not(feature = "cuda"))]
    None
}

pub fn memory(device: &Device) -> Result<Memory> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => gpu::memory(device),
        _ => Ok(host_memory()),
    }
}

/// The most bytes that tensors have taken at once since [`reset_peak`]; `None` where nobody counts, on the CPU.
pub fn peak(device: &Device) -> Result<Option<u64>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => gpu::peak(device).map(Some),
        _ => Ok(None),
    }
}

pub fn reset_peak(device: &Device) -> Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => Ok(crate::cuda::reset_memory_peak(device)?),
        _ => Ok(()),
    }
}

/// Gives what the pool keeps ready back to the driver: after memory ran out, so that the next piece of work finds it in one piece.
pub fn trim(device: &Device) -> Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => Ok(crate::cuda::trim(device)?),
        _ => Ok(()),
    }
}

/// Σ x² of an f32 tensor, [1], without waiting for it.
pub fn sum_of_squares(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        let x = x.contiguous()?;
        let (storage, layout) = x.storage_and_layout();
        let candle_core::Storage::Cuda(storage) = &*storage else { unreachable!("it is on a GPU") };
        return Ok(crate::cuda::tensor(crate::cuda::reduce::sum_of_squares((storage, layout))?, 1));
    }
    Ok(x.sqr()?.sum_all()?.reshape(1)?)
}

/// `NVIDIA H100 80GB HBM3`, `2 CPU cores`.
pub fn in_words(device: &Device) -> String {
    if let Ok(Some(gpu)) = gpu_of(device) {
        return gpu.name;
    }
    match std::thread::available_parallelism().map_or(1, usize::from) {
        1 => "1 CPU core".into(),
        cores => format!("{cores} CPU cores"),
    }
}

#[cfg(feature = "cuda")]
fn open(index: usize) -> Result<Device> {
    gpu::open(index)
}

#[cfg(not(feature = "cuda"))]
fn open(index: usize) -> Result<Device> {
    Err(Error::invalid(format!(
        "device cuda:{index}: this Atelier was built without GPUs; build it with `cargo build --release --features cuda`, or choose --device cpu"
    )))
}

/// Of the container where there is one with less than the machine has.
fn host_memory() -> Memory {
    let what = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let Ok(system) = System::new_with_specifics(what) else { return Memory { total: 0, free: 0 } };
    let machine = Memory { total: system.total_memory(), free: system.available_memory() };
    match system.cgroup_limits() {
        Some(limits) if limits.total_memory < machine.total => {
            Memory { total: limits.total_memory, free: limits.total_memory.saturating_sub(limits.rss).min(machine.free) }
        }
        _ => machine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_as_they_are_written() {
        for (text, choice) in [("auto", Choice::Auto), ("cpu", Choice::Cpu), ("cuda:0", Choice::Cuda(0)), ("cuda:3", Choice::Cuda(3))] {
            assert_eq!(text.parse::<Choice>().unwrap(), choice);
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!("cuda".parse::<Choice>().unwrap(), Choice::Cuda(0));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            assert!(wrong.parse::<Choice>().unwrap_err().to_string().contains("cuda:0"), "{wrong}");
        }
    }

    #[test]
    fn a_gpu_without_bf16_is_refused() {
        let gpu = |compute_capability| Gpu { index: 1, name: "Tesla T4".into(), compute_capability, total_bytes: 0 };
        let sentence = gpu((7, 5)).check().unwrap_err().to_string();
        assert!(["cuda:1", "Tesla T4", "7.5", "8.0", "cpu"].iter().all(|part| sentence.contains(part)), "{sentence}");
        assert!(gpu((8, 0)).check().is_ok() && gpu((12, 0)).check().is_ok());
        assert!(!gpu((8, 6)).has_fp8() && gpu((8, 9)).has_fp8());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn without_the_feature_a_gpu_is_refused_and_auto_is_the_cpu() {
        let sentence = Choice::Cuda(0).open().unwrap_err().to_string();
        assert!(sentence.contains("--features cuda") && sentence.contains("--device cpu"), "{sentence}");
        assert!(Choice::Auto.open().unwrap().is_cpu());
    }

    #[test]
    fn the_cpu_has_memory() {
        let memory = memory(&Device::Cpu).unwrap();
        assert!(memory.free > 0 && memory.free <= memory.total, "{memory:?}");
    }
}
