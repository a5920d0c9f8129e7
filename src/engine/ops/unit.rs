//! What the CPU multiplies with.

use std::sync::OnceLock;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Tile registers: bf16 pairs.
    #[cfg(target_arch = "x86_64")]
    Amx,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// What the `gemm` crate chooses.
    Portable,
}

impl Unit {
    /// Those that this CPU has, fastest first.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(super::amx::available().then_some(Self::Amx));
            all.extend(super::simd::has_avx512().then_some(Self::Avx512));
        }
        all.push(Self::Portable);
        all
    }

    pub fn best() -> Self {
        static BEST: OnceLock<Unit> = OnceLock::new();
        *BEST.get_or_init(|| Self::all()[0])
    }
}
