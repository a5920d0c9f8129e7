//! AdamW whose moments take one byte each (bitsandbytes' `AdamW8bit`): a quarter of the memory, the same arithmetic in between.

use super::{Adam, Optimizer, Rule};
use crate::Result;
use crate::tensor_file::TensorFile;
use engine::quant::dynamic::{BLOCK, SIGNED, UNSIGNED};
use rayon::prelude::*;

/// Tensors below this keep 32-bit moments, as bitsandbytes' `min_8bit_size` has it: nothing is saved on them.
const SMALLEST: usize = 4096;

pub struct AdamW8bit {
    adam: Adam,
    moments: Vec<Moments>,
}

/// Both moments of one tensor.
pub(super) enum Moments {
    Full { first: Vec<f32>, second: Vec<f32> },
    Quantised { first: Vec<u8>, first_scale: Vec<f32>, second: Vec<u8>, second_scale: Vec<f32> },
}

impl AdamW8bit {
    pub fn new(adam: Adam, lengths: &[usize]) -> Self {
        Self { adam, moments: lengths.iter().map(|&length| Moments::zero(length)).collect() }
    }
}

impl Optimizer for AdamW8bit {
    fn step(&mut self, step: usize, learning_rate: f64, parameters: &mut [f32], gradients: &[f32]) {
        let rule = self.adam.at(step, learning_rate);
        let (mut parameters, mut gradients) = (parameters, gradients);
        for moments in &mut self.moments {
            let (mine, others) = parameters.split_at_mut(moments.len());
            let (my_gradients, other_gradients) = gradients.split_at(moments.len());
            moments.step(rule, mine, my_gradients);
            (parameters, gradients) = (others, other_gradients);
        }
    }

    fn save(&self, file: &mut TensorFile) {
        save(&self.moments, file);
    }

    fn restore(&mut self, file: &TensorFile) -> Result<()> {
        restore(&mut self.moments, file)
    }
}

/// The moments of all tensors, in their order.
pub(super) fn save(moments: &[Moments], file: &mut TensorFile) {
    moments.iter().enumerate().for_each(|(index, moments)| moments.save(&format!("adamw8bit.{index}"), file));
}

pub(super) fn restore(moments: &mut [Moments], file: &TensorFile) -> Result<()> {
    moments.iter_mut().enumerate().try_for_each(|(index, moments)| moments.restore(&format!("adamw8bit.{index}"), file))
}

impl Moments {
    pub(super) fn zero(length: usize) -> Self {
        if length < SMALLEST {
            return Self::Full { first: vec![0.0; length], second: vec![0.0; length] };
        }
        let (zero, blocks) = (SIGNED.nearest(0.0), length.div_ceil(BLOCK));
        Self::Quantised {
            first: vec![zero; length],
            first_scale: vec![0.0; blocks],
            second: vec![UNSIGNED.nearest(0.0); length],
            second_scale: vec![0.0; blocks],
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Full { first, .. } => first.len(),
            Self::Quantised { first, .. } => first.len(),
        }
    }

    fn step(&mut self, rule: Rule, parameters: &mut [f32], gradients: &[f32]) {
        match self {
            Self::Full { first, second } => {
                for (i, parameter) in parameters.iter_mut().enumerate() {
                    rule.apply(parameter, &mut first[i], &mut second[i], gradients[i]);
                }
            }
            Self::Quantised { first, first_scale, second, second_scale } => parameters
                .par_chunks_mut(BLOCK)
                .zip(gradients.par_chunks(BLOCK))
                .zip(first.par_chunks_mut(BLOCK).zip(second.par_chunks_mut(BLOCK)))
                .zip(first_scale.par_iter_mut().zip(second_scale))
                .for_each(|(((parameters, gradients), codes), scales)| step_block(rule, parameters, gradients, codes, scales)),
        }
    }

    fn save(&self, name: &str, file: &mut TensorFile) {
        match self {
            Self::Full { first, second } => {
                file.put(&format!("{name}.first"), &[first.len()], first.clone());
                file.put(&format!("{name}.second"), &[second.len()], second.clone());
            }
            Self::Quantised { first, first_scale, second, second_scale } => {
                file.put(&format!("{name}.first"), &[first.len()], first.clone());
                file.put(&format!("{name}.first_scale"), &[first_scale.len()], first_scale.clone());
                file.put(&format!("{name}.second"), &[second.len()], second.clone());
                file.put(&format!("{name}.second_scale"), &[second_scale.len()], second_scale.clone());
            }
        }
    }

    fn restore(&mut self, name: &str, file: &TensorFile) -> Result<()> {
        match self {
            Self::Full { first, second } => {
                file.read_floats(&format!("{name}.first"), first)?;
                file.read_floats(&format!("{name}.second"), second)?;
            }
            Self::Quantised { first, first_scale, second, second_scale } => {
                file.read_bytes(&format!("{name}.first"), first)?;
                file.read_floats(&format!("{name}.first_scale"), first_scale)?;
                file.read_bytes(&format!("{name}.second"), second)?;
                file.read_floats(&format!("{name}.second_scale"), second_scale)?;
            }
        }
        Ok(())
    }
}

/// One block: moments out of their codes, the step in f32, moments back with a fresh scale.
fn step_block(rule: Rule, parameters: &mut [f32], gradients: &[f32], codes: (&mut [u8], &mut [u8]), scales: (&mut f32, &mut f32)) {
    let (mut first, mut second) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
    for (i, parameter) in parameters.iter_mut().enumerate() {
        first[i] = SIGNED.value(codes.0[i]) * *scales.0;
        second[i] = UNSIGNED.value(codes.1[i]) * *scales.1;
        rule.apply(parameter, &mut first[i], &mut second[i], gradients[i]);
    }
    let largest = |moment: &[f32; BLOCK]| moment.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    (*scales.0, *scales.1) = (largest(&first), largest(&second));
    // A block of zeros has scale zero and any code.
    let unit = |value: f32, scale: f32| if scale > 0.0 { value / scale } else { 0.0 };
    for i in 0..parameters.len() {
        codes.0[i] = SIGNED.nearest(unit(first[i], *scales.0));
        codes.1[i] = UNSIGNED.nearest_above_zero(unit(second[i], *scales.1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::AdamW;
    use crate::random::{self, Purpose};

    const ADAM: Adam = Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 1e-4 };

    /// Both walk down the same noisy slope and stay together.
    #[test]
    fn follows_the_32_bit_optimiser_closely() {
        let lengths = [5000, 300];
        let total = lengths.iter().sum();
        let (mut exact, mut coarse) = (AdamW::new(ADAM, total), AdamW8bit::new(ADAM, &lengths));
        assert!(matches!((&coarse.moments[0], &coarse.moments[1]), (Moments::Quantised { .. }, Moments::Full { .. })));
        let mut rng = random::keyed(3, Purpose::Noise, &[]);
        let aim = random::normal(&mut rng, total);
        let (mut a, mut b) = (vec![0.0f32; total], vec![0.0f32; total]);
        for step in 1..=200 {
            let noise = random::normal(&mut rng, total);
            let slope = |x: &[f32]| x.iter().zip(&aim).zip(&noise).map(|((x, aim), n)| x - aim + 0.3 * n).collect::<Vec<_>>();
            let (slope_a, slope_b) = (slope(&a), slope(&b));
            exact.step(step, 0.01, &mut a, &slope_a);
            coarse.step(step, 0.01, &mut b, &slope_b);
        }
        let distance = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from((x - y).powi(2))).sum::<f64>().sqrt();
        assert!(distance(&a, &b) < 0.03 * distance(&aim, &vec![0.0; total]), "{}", distance(&a, &b));
        assert_eq!(a[5000..], b[5000..], "small tensors are exact");
    }

    #[test]
    fn restored_state_goes_on_bit_for_bit() {
        let lengths = [4096, 10];
        let mut rng = random::keyed(4, Purpose::Noise, &[]);
        let gradients = random::normal(&mut rng, 4106);
        let mut straight = AdamW8bit::new(ADAM, &lengths);
        let mut parameters = vec![0.1f32; 4106];
        straight.step(1, 0.01, &mut parameters, &gradients);
        let mut file = TensorFile::default();
        straight.save(&mut file);
        let mut resumed = AdamW8bit::new(ADAM, &lengths);
        resumed.restore(&file).unwrap();
        let mut other = parameters.clone();
        straight.step(2, 0.01, &mut parameters, &gradients);
        resumed.step(2, 0.01, &mut other, &gradients);
        assert_eq!(parameters, other);
    }

    /// A gradient that falls silent: the step must fade, not explode.
    #[test]
    fn a_silent_gradient_does_not_explode() {
        let mut optimizer = AdamW8bit::new(ADAM, &[4096]);
        let mut parameters = vec![0.0f32; 4096];
        let mut gradients: Vec<f32> = (0..4096).map(|i| if i % 2 == 0 { 1.0 } else { 1e-4 }).collect();
        for step in 1..=50 {
            optimizer.step(step, 0.01, &mut parameters, &gradients);
            if step == 20 {
                gradients.iter_mut().skip(1).step_by(2).for_each(|g| *g = 0.0);
            }
        }
        assert!(parameters.iter().all(|p| p.abs() < 1.0));
    }
}
