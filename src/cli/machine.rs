//! What computer this is: cores, vector units, memory, disk.

use engine::device::{self, Gpu, Memory};
use serde::Serialize;
use std::path::Path;
use sysinfo::{CpuRefreshKind, Disks, RefreshKind, System};

#[derive(Debug, Serialize)]
pub struct Machine {
    pub system: String,
    pub processor: String,
    pub cores: usize,
    /// Of those the engine has code for, best last.
    pub vector_units: Vec<&'static str>,
    pub memory_bytes: u64,
    pub free_memory_bytes: u64,
    pub gpus: Vec<Gpu>,
    /// On the disk of the working directory.
    pub free_disk_bytes: Option<u64>,
}

impl Machine {
    pub fn look(folder: &Path) -> Self {
        let system = System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing())).ok();
        let memory = device::memory(&engine::Device::Cpu).unwrap_or(Memory { total: 0, free: 0 });
        let brand = system.as_ref().and_then(|system| Some(system.cpus().first()?.brand().trim().to_owned()));
        Self {
            system: System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.into()),
            processor: brand.filter(|brand| !brand.is_empty()).unwrap_or_else(|| std::env::consts::ARCH.into()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            vector_units: vector_units(),
            memory_bytes: memory.total,
            free_memory_bytes: memory.free,
            gpus: device::gpus(),
            free_disk_bytes: free_disk(folder),
        }
    }
}

/// Free bytes on the disk that holds `folder`.
fn free_disk(folder: &Path) -> Option<u64> {
    let folder = folder.canonicalize().ok()?;
    let disks = Disks::new_with_refreshed_list().ok()?;
    let holding = disks.iter().filter(|disk| folder.starts_with(disk.mount_point()));
    holding.max_by_key(|disk| disk.mount_point().as_os_str().len()).map(|disk| disk.available_space())
}

#[cfg(target_arch = "x86_64")]
fn vector_units() -> Vec<&'static str> {
    // std cannot detect AMX on stable Rust; the kernel lists it.
    let tiles = std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" amx_bf16"));
    let found = [
        ("AVX2", is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")),
        ("AVX-512", is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")),
        ("AVX-512 bf16", is_x86_feature_detected!("avx512bf16")),
        ("AMX", tiles),
    ];
    found.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn vector_units() -> Vec<&'static str> {
    if cfg!(target_arch = "aarch64") { vec!["NEON"] } else { Vec::new() }
}

/// The most memory this process has held, in MiB, where the system tells.
pub fn peak_memory_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
}
