//! Gradients → new weights, over one flat buffer: AdamW with 32-bit or 8-bit moments, clipping, learning-rate schedule.

mod adamw;
mod adamw8bit;
mod device;
pub mod schedule;

pub use adamw::AdamW;
pub use adamw8bit::AdamW8bit;
pub use device::{Clipped, DeviceOptimizer, on_device};

use crate::Result;
use crate::recipe::{OptimizerKind, Recipe};
use crate::tensor_file::TensorFile;

/// Updates a flat parameter buffer; its state can be written and read back bit for bit.
pub trait Optimizer: Send {
    /// One step; `step` counts from 1.
    fn step(&mut self, step: usize, learning_rate: f64, parameters: &mut [f32], gradients: &[f32]);
    fn save(&self, file: &mut TensorFile);
    fn restore(&mut self, file: &TensorFile) -> Result<()>;
}

/// The optimiser that a recipe asks for; `lengths` are those of the tensors in the flat buffer.
pub fn new(recipe: &Recipe, lengths: &[usize]) -> Box<dyn Optimizer> {
    let adam = Adam::of(recipe);
    match recipe.optimizer {
        OptimizerKind::AdamW => Box::new(AdamW::new(adam, lengths.iter().sum())),
        OptimizerKind::AdamW8bit => Box::new(AdamW8bit::new(adam, lengths)),
    }
}

/// Constants of AdamW.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
}

impl Adam {
    pub fn of(recipe: &Recipe) -> Self {
        Self { beta1: recipe.beta1, beta2: recipe.beta2, epsilon: recipe.epsilon, weight_decay: recipe.weight_decay }
    }

    /// The step's arithmetic as `torch.optim.AdamW` orders it (decoupled decay first), for one element.
    fn at(&self, step: usize, learning_rate: f64) -> Rule {
        let correction = |beta: f64| 1.0 - beta.powi(step as i32);
        Rule {
            keep: (1.0 - learning_rate * self.weight_decay) as f32,
            new_first: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            new_second: (1.0 - self.beta2) as f32,
            rate: (learning_rate / correction(self.beta1)) as f32,
            root: correction(self.beta2).sqrt() as f32,
            epsilon: self.epsilon as f32,
        }
    }
}

/// AdamW of one step, ready for every element.
#[derive(Clone, Copy)]
struct Rule {
    keep: f32,
    new_first: f32,
    beta2: f32,
    new_second: f32,
    rate: f32,
    root: f32,
    epsilon: f32,
}

impl Rule {
    #[inline]
    fn apply(self, parameter: &mut f32, first: &mut f32, second: &mut f32, gradient: f32) {
        *first += (gradient - *first) * self.new_first;
        *second = *second * self.beta2 + gradient * gradient * self.new_second;
        *parameter = *parameter * self.keep - self.rate * *first / (second.sqrt() / self.root + self.epsilon);
    }
}

/// Scales the gradients so that their norm over all tensors is at most `most`; returns the norm before.
/// The epsilon is `torch.nn.utils.clip_grad_norm_`'s.
pub fn clip(gradients: &mut [f32], most: f64) -> f64 {
    let norm = gradients.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
    let factor = (most / (norm + 1e-6)) as f32;
    if factor < 1.0 {
        gradients.iter_mut().for_each(|g| *g *= factor);
    }
    norm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_keeps_direction_and_leaves_small_gradients_alone() {
        let mut gradients = [3.0, 4.0];
        assert_eq!(clip(&mut gradients, 1.0), 5.0);
        assert!((gradients[0] - 0.6).abs() < 1e-6 && (gradients[1] - 0.8).abs() < 1e-6);
        let mut small = [0.3, 0.4];
        assert!((clip(&mut small, 1.0) - 0.5).abs() < 1e-6 && small == [0.3, 0.4]);
    }
}
