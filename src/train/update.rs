//! Gradients → new weights: an optimiser step as a whole, on the host for the CPU and in its own memory for a GPU.

use crate::lora::Lora;
use crate::number::Number;
use crate::objective::check_finite;
use crate::optimizer::{self, Clipped, DeviceOptimizer, Optimizer};
use crate::tensor_file::TensorFile;
use crate::{Recipe, Result};
use candle_core::Tensor;
use engine::Device;

/// The weights in one flat buffer, the truth of which the model sees copies, and their optimiser.
pub enum Update {
    Host { weights: Vec<f32>, optimizer: Box<dyn Optimizer> },
    Device { weights: Tensor, optimizer: Box<dyn DeviceOptimizer> },
}

/// One step's settings.
#[derive(Clone, Copy)]
pub struct Settings {
    /// Counts from 1.
    pub step: usize,
    pub learning_rate: f64,
    /// Micro-batches that the gradients were summed over.
    pub accumulated: usize,
    pub max_grad_norm: f64,
}

impl Update {
    pub fn new(recipe: &Recipe, lora: &Lora, device: &Device) -> Result<Self> {
        let weights = lora.flat()?;
        if device.is_cpu() {
            return Ok(Self::Host { weights: weights.to_vec1()?, optimizer: optimizer::new(recipe, &lora.lengths()) });
        }
        Ok(Self::Device { weights, optimizer: optimizer::on_device(recipe, &lora.lengths(), device)? })
    }

    /// Averages and clips the summed gradients, takes the step, and shows the new weights to the model. Returns the norm before
    /// clipping: known on the host, where one that is no number stops the step, and on its way from a GPU.
    pub fn step(&mut self, settings: Settings, gradients: &Tensor, lora: &Lora) -> Result<Number> {
        match self {
            Self::Host { weights, optimizer } => {
                let norm = step_on_host(settings, gradients.to_vec1()?, weights, optimizer.as_mut())?;
                lora.show(&Tensor::from_slice(weights, weights.len(), gradients.device())?)?;
                Ok(Number::Known(norm))
            }
            Self::Device { weights, optimizer } => {
                let norm = step_on_device(settings, gradients, weights, optimizer.as_mut())?;
                lora.show(weights)?;
                Number::of(&norm)
            }
        }
    }

    pub fn save(&self, file: &mut TensorFile) -> Result<()> {
        match self {
            Self::Host { weights, optimizer } => {
                file.put(WEIGHTS, &[weights.len()], weights.clone());
                optimizer.save(file);
                Ok(())
            }
            Self::Device { weights, optimizer } => {
                file.put(WEIGHTS, weights.dims(), weights.to_vec1::<f32>()?);
                optimizer.save(file)
            }
        }
    }

    /// What was saved on the one is restored on the other too.
    pub fn restore(&mut self, file: &TensorFile, lora: &Lora) -> Result<()> {
        let saved = file.floats(WEIGHTS, lora.parameters())?;
        match self {
            Self::Host { weights, optimizer } => {
                weights.copy_from_slice(saved);
                lora.show(&Tensor::from_slice(weights, weights.len(), &Device::Cpu)?)?;
                optimizer.restore(file)
            }
            Self::Device { weights, optimizer } => {
                *weights = Tensor::from_slice(saved, saved.len(), weights.device())?;
                lora.show(weights)?;
                optimizer.restore(file)
            }
        }
    }
}

const WEIGHTS: &str = "lora";

fn step_on_host(settings: Settings, mut gradients: Vec<f32>, weights: &mut [f32], optimizer: &mut dyn Optimizer) -> Result<f64> {
    let share = 1.0 / settings.accumulated as f32;
    gradients.iter_mut().for_each(|gradient| *gradient *= share);
    let norm = check_finite("gradient", optimizer::clip(&mut gradients, settings.max_grad_norm), settings.step)?;
    optimizer.step(settings.step, settings.learning_rate, weights, &gradients);
    Ok(norm)
}

/// The norm, [1].
fn step_on_device(settings: Settings, gradients: &Tensor, weights: &Tensor, optimizer: &mut dyn DeviceOptimizer) -> Result<Tensor> {
    let Settings { step, learning_rate, accumulated, max_grad_norm } = settings;
    let averaged = if accumulated == 1 { gradients.clone() } else { (gradients / accumulated as f64)? };
    let squares = engine::device::sum_of_squares(&averaged)?;
    optimizer.step(step, learning_rate, weights, Clipped { gradients: &averaged, squares: &squares, most: max_grad_norm })?;
    Ok(squares.sqrt()?)
}
