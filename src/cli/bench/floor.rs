//! The least time that a piece of work can take on a GPU: its operations at the rate that the best products reach there.

use engine::{Precision, flops::Flops};

/// Operations a second.
struct Rates {
    /// cuBLAS on large products in bf16, and attention beside them.
    bf16: f64,
    fp8: f64,
    /// Attention in bf16 where products are in fp8: the best kernels published for 128 channels a head (arXiv 2407.08608).
    attention: f64,
}

/// Of GPUs that this was measured on; of others nothing is claimed.
fn rates(gpu: &str) -> Option<Rates> {
    let hopper = ["H100", "H200"].iter().any(|name| gpu.contains(name));
    hopper.then_some(Rates { bf16: 790e12, fp8: 1580e12, attention: 638e12 })
}

/// Seconds. NF4 multiplies in bf16.
pub fn seconds(gpu: &str, precision: Precision, work: Flops) -> Option<f64> {
    let rates = rates(gpu)?;
    match precision {
        Precision::Bf16 | Precision::Nf4 => Some(work.total() / rates.bf16),
        Precision::Fp8 => Some(work.linear / rates.fp8 + work.attention / rates.attention),
        Precision::F32 => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::{synthetic::Synthetic, transformer::Config};

    #[test]
    fn floors_of_flux_dev_on_an_h100() {
        let model: Config = Synthetic::FluxDev.config("transformer");
        let step = Flops::forward(&model, 4096, 512);
        let near = |precision, expected: f64| {
            let floor = seconds("NVIDIA H100 80GB HBM3", precision, step).unwrap();
            assert!((floor / expected - 1.0).abs() < 0.01, "{precision}: {floor}");
        };
        near(Precision::Bf16, 0.0942);
        near(Precision::Nf4, 0.0942);
        near(Precision::Fp8, 0.0610);
        assert_eq!(seconds("NVIDIA L4", Precision::Bf16, step), None);
    }
}
