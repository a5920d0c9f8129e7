//! Random inputs and comparisons for the tests of the operations.

use candle_core::{Device, Shape, Tensor, Var, backprop::GradStore};
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

/// Compares an operation with its plain twin: the value, and the gradient of every input under a random upstream gradient.
pub fn compare<F, P>(what: &str, inputs: &[Tensor], fast: F, plain: P)
where
    F: Fn(&[Tensor]) -> Tensor,
    P: Fn(&[Tensor]) -> Tensor,
{
    let run = |f: &dyn Fn(&[Tensor]) -> Tensor| -> (Tensor, GradStore, Vec<Tensor>) {
        let inputs: Vec<Tensor> = inputs.iter().map(|x| Var::from_tensor(x).unwrap().into_inner()).collect();
        let y = f(&inputs);
        let upstream = tensor(999, y.shape());
        let grads = (&y * upstream).unwrap().sum_all().unwrap().backward().unwrap();
        (y, grads, inputs)
    };
    let (ours, our_grads, our_inputs) = run(&fast);
    let (expected, grads, plain_inputs) = run(&plain);
    assert_close(what, &ours, &expected, 2e-5);
    for (index, (a, b)) in our_inputs.iter().zip(&plain_inputs).enumerate() {
        let gradient = our_grads.get(a).unwrap_or_else(|| panic!("{what}: no gradient for input {index}"));
        assert_close(&format!("{what}, gradient {index}"), gradient, grads.get(b).unwrap(), 5e-5);
    }
}
