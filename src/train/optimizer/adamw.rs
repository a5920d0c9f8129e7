//! AdamW with 32-bit moments (`torch.optim.AdamW`).

use super::{Adam, Optimizer};
use crate::Result;
use crate::tensor_file::TensorFile;
use rayon::prelude::*;

pub struct AdamW {
    adam: Adam,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl AdamW {
    pub fn new(adam: Adam, parameters: usize) -> Self {
        Self { adam, first: vec![0.0; parameters], second: vec![0.0; parameters] }
    }
}

impl Optimizer for AdamW {
    fn step(&mut self, step: usize, learning_rate: f64, parameters: &mut [f32], gradients: &[f32]) {
        let rule = self.adam.at(step, learning_rate);
        (parameters.par_iter_mut(), &mut self.first, &mut self.second, gradients)
            .into_par_iter()
            .with_min_len(1 << 14)
            .for_each(|(parameter, first, second, &gradient)| rule.apply(parameter, first, second, gradient));
    }

    fn save(&self, file: &mut TensorFile) {
        file.put("adamw.first", &[self.first.len()], self.first.clone());
        file.put("adamw.second", &[self.second.len()], self.second.clone());
    }

    fn restore(&mut self, file: &TensorFile) -> Result<()> {
        file.read_floats("adamw.first", &mut self.first)?;
        file.read_floats("adamw.second", &mut self.second)
    }
}
