//! Random inputs and comparisons for the tests of the operations.

use super::plain;
use candle_core::{Device, Shape, Tensor};
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

pub fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    StandardNormal.sample_iter(random).take(count).collect()
}

pub fn tensor(seed: u64, shape: impl Into<Shape>) -> Tensor {
    let shape = shape.into();
    Tensor::from_vec(numbers(seed, shape.elem_count()), shape, &Device::Cpu).unwrap()
}

/// ‖ours − expected‖ / ‖expected‖
pub fn relative_error(ours: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(ours.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut ours.iter().zip(expected).map(|(&a, &b)| a as f64 - b as f64));
    difference / norm(&mut expected.iter().map(|&x| x as f64)).max(1e-20)
}

pub fn assert_close(what: &str, ours: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(ours.dims(), expected.dims(), "{what}");
    let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let error = relative_error(&flat(ours), &flat(expected));
    assert!(error <= tolerance, "{what}: relative error {error:.2e}");
}

/// Compares an operation with its plain twin: the value, and under a random upstream gradient the gradients that `gradients` returns of the
/// first inputs, in order.
pub fn compare(
    what: &str,
    inputs: &[Tensor],
    fast: impl Fn(&[Tensor]) -> Tensor,
    gradients: impl Fn(&[Tensor], &Tensor) -> Vec<Tensor>,
    specification: impl Fn(&[Tensor]) -> Tensor,
) {
    let expected = specification(inputs);
    assert_close(what, &fast(inputs), &expected, 2e-5);
    let upstream = tensor(999, expected.shape());
    let (_, theirs) = plain::with_gradients(inputs, &upstream, |x| Ok(specification(x))).unwrap();
    for (index, (ours, theirs)) in gradients(inputs, &upstream).iter().zip(&theirs).enumerate() {
        assert_close(&format!("{what}, gradient {index}"), ours, theirs, 5e-5);
    }
}
