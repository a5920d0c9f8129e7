//! Where a chain of operations runs: on one of rayon's own threads.

/// Runs `work` as one of rayon's threads. From outside, every parallel operation in it would wake the pool and sleep until it is done, which
/// costs as much as a small operation itself.
pub fn on_the_cores<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
}
