//! The GPUs: which they are, what they have free, and in which precision the model fits them.

use super::Finding;
use engine::{
    Model,
    device::{self, Gpu},
    memory::{self, Bytes, Peak, Sizes, Workload},
};

pub fn findings(gpus: &[Gpu], model: &Model) -> Vec<Finding> {
    if gpus.is_empty() {
        return vec![none()];
    }
    // A model that cannot be read is told about elsewhere.
    let sizes = Sizes::of(model).ok();
    gpus.iter().map(|gpu| of(gpu, device::free_on(gpu).unwrap_or(0), sizes.as_ref())).collect()
}

fn none() -> Finding {
    const ABOUT: &str = "gpu";
    if device::is_built_for_gpus() {
        let cure = "with an NVIDIA card (A100, L4, RTX 30 or newer) and its driver, FLUX.1 at full size is drawn in seconds";
        return Finding::slow(ABOUT, "no NVIDIA GPU, or no driver for it".into(), cure);
    }
    // The kernel module tells of a card that this build cannot ask.
    match std::path::Path::new("/proc/driver/nvidia").exists() {
        true => Finding::slow(
            ABOUT,
            "an NVIDIA GPU is here, and this Atelier was built without GPUs".into(),
            "build it with `cargo build --release --features cuda`",
        ),
        false => Finding::good(ABOUT, "none; this Atelier was built for the CPU".into()),
    }
}

fn of(gpu: &Gpu, free: u64, sizes: Option<&Sizes>) -> Finding {
    const ABOUT: &str = "gpu";
    if let Err(error) = gpu.check() {
        return Finding::slow(ABOUT, error.to_string(), "the CPU is used instead");
    }
    let (major, minor) = gpu.compute_capability;
    let driver = device::driver().map(|driver| format!(", driver {driver}")).unwrap_or_default();
    let described = format!(
        "cuda:{} {}, compute capability {major}.{minor}{driver}, {} of {} free",
        gpu.index,
        gpu.name,
        Bytes(free),
        Bytes(gpu.total_bytes)
    );
    let Some(sizes) = sizes else { return Finding::good(ABOUT, described) };
    let placement = memory::place(sizes, None, gpu.has_fp8(), free);
    let needed = Peak::of(sizes, placement, &Workload::generate(sizes.usual_size(), 512, 1)).least();
    let fits = format!("the model takes {} in {} with T5 in {}", Bytes(needed), placement.precision, placement.text);
    match needed <= free {
        true => Finding::good(ABOUT, format!("{described}; {fits}")),
        false => Finding::slow(
            ABOUT,
            format!("{described}; {fits}, which does not fit"),
            "close other programs that use the GPU, or use --device cpu",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Verdict;
    use engine::synthetic::Synthetic;

    fn gpu(compute_capability: (u32, u32)) -> Gpu {
        Gpu { index: 0, name: "NVIDIA L4".into(), compute_capability, total_bytes: 24 << 30 }
    }

    #[test]
    fn a_gpu_is_told_with_what_fits_it() {
        let sizes = Sizes::of(&Model::Synthetic(Synthetic::FluxDev)).unwrap();
        let told = |gib: u64, gpu: Gpu| of(&gpu, gib << 30, Some(&sizes));
        // 22.6 GiB were measured for a step in bf16, 14.5 in fp8.
        let fits = told(22, gpu((8, 9)));
        assert!(
            fits.verdict == Verdict::Good && fits.sentence.contains("NVIDIA L4") && fits.sentence.contains("in fp8 with T5 in"),
            "{}",
            fits.sentence
        );
        let full = told(2, gpu((8, 9)));
        assert!(full.verdict == Verdict::Slow && full.sentence.contains("does not fit") && full.cure.is_some());
        let old = told(22, gpu((7, 5)));
        assert!(old.verdict == Verdict::Slow && old.sentence.contains("7.5"));
    }
}
