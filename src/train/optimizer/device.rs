//! The optimisers over flat buffers that stay on a GPU. Nothing is read back; what they save is what those of the host save.

use super::{Adam, Rule};
use crate::Result;
use crate::recipe::{OptimizerKind, Recipe};
use crate::tensor_file::TensorFile;
use candle_core::Tensor;
use engine::Device;

pub trait DeviceOptimizer: Send {
    /// Changes the weights, [n] f32, in place; `step` counts from 1.
    fn step(&mut self, step: usize, learning_rate: f64, weights: &Tensor, gradients: Clipped) -> Result<()>;
    fn save(&self, file: &mut TensorFile) -> Result<()>;
    fn restore(&mut self, file: &TensorFile) -> Result<()>;
}

/// Gradients, [n] f32, to be scaled as they are read so that their norm is at most `most`.
#[derive(Clone, Copy)]
pub struct Clipped<'a> {
    pub gradients: &'a Tensor,
    /// Their sum of squares, [1], which the host does not know yet.
    pub squares: &'a Tensor,
    pub most: f64,
}

/// The optimiser that a recipe asks for; `lengths` are those of the tensors in the flat buffer.
pub fn on_device(recipe: &Recipe, lengths: &[usize], device: &Device) -> Result<Box<dyn DeviceOptimizer>> {
    let adam = Adam::of(recipe);
    match recipe.optimizer {
        OptimizerKind::AdamW => Ok(Box::new(AdamW::new(adam, lengths.iter().sum(), device)?)),
        #[cfg(feature = "cuda")]
        OptimizerKind::AdamW8bit => Ok(Box::new(eight_bit::AdamW8bit::new(adam, lengths, device)?)),
        #[cfg(not(feature = "cuda"))]
        OptimizerKind::AdamW8bit => {
            let _ = lengths;
            Err(crate::Error::Recipe(format!("the optimiser adamw8bit has no kernel for {device:?} in this build; use adamw")))
        }
    }
}

/// AdamW with 32-bit moments, in the tensors' own operations: some fifteen kernels a step, whatever the number of tensors.
struct AdamW {
    adam: Adam,
    first: Tensor,
    second: Tensor,
}

impl AdamW {
    fn new(adam: Adam, parameters: usize, device: &Device) -> Result<Self> {
        let zeros = || Tensor::zeros(parameters, candle_core::DType::F32, device);
        Ok(Self { adam, first: zeros()?, second: zeros()? })
    }
}

impl DeviceOptimizer for AdamW {
    fn step(&mut self, step: usize, learning_rate: f64, weights: &Tensor, gradients: Clipped) -> Result<()> {
        let Rule { keep, new_first, beta2, new_second, rate, root, epsilon } = self.adam.at(step, learning_rate);
        let gradients = gradients.gradients.broadcast_mul(&gradients.factor()?)?;
        self.first = (&self.first + ((&gradients - &self.first)? * f64::from(new_first))?)?;
        self.second = ((&self.second * f64::from(beta2))? + (gradients.sqr()? * f64::from(new_second))?)?;
        let size = ((self.second.sqrt()? / f64::from(root))? + f64::from(epsilon))?;
        let stepped = ((weights * f64::from(keep))? - ((&self.first / size)? * f64::from(rate))?)?;
        Ok(weights.slice_set(&stepped, 0, 0)?)
    }

    fn save(&self, file: &mut TensorFile) -> Result<()> {
        file.put("adamw.first", self.first.dims(), self.first.to_vec1::<f32>()?);
        file.put("adamw.second", self.second.dims(), self.second.to_vec1::<f32>()?);
        Ok(())
    }

    fn restore(&mut self, file: &TensorFile) -> Result<()> {
        for (name, moment) in [("adamw.first", &mut self.first), ("adamw.second", &mut self.second)] {
            let saved = file.floats(name, moment.elem_count())?;
            *moment = Tensor::from_slice(saved, saved.len(), moment.device())?;
        }
        Ok(())
    }
}

impl Clipped<'_> {
    /// What the gradients are multiplied by, [1]; as [`super::clip`] has it.
    fn factor(&self) -> Result<Tensor> {
        let norm = (self.squares.sqrt()? + 1e-6)?;
        Ok((norm.recip()? * self.most)?.minimum(1.0)?)
    }
}

#[cfg(feature = "cuda")]
mod eight_bit {
    //! AdamW with 8-bit moments in one kernel.

    use super::super::adamw8bit::{self, Moments};
    use super::{Adam, Clipped, DeviceOptimizer};
    use crate::Result;
    use crate::tensor_file::TensorFile;
    use candle_core::{CpuStorage, CudaStorage, InplaceOp3, Layout, Tensor};
    use engine::Device;
    use engine::cuda::adamw8bit as native;
    use engine::quant::dynamic::{SIGNED, UNSIGNED};
    use std::sync::Mutex;

    pub struct AdamW8bit {
        adam: Adam,
        lengths: Vec<usize>,
        moments: Mutex<native::AdamW8bit>,
    }

    impl AdamW8bit {
        pub fn new(adam: Adam, lengths: &[usize], device: &Device) -> Result<Self> {
            let moments = native::AdamW8bit::new(device.as_cuda_device()?, lengths, [SIGNED.values(), UNSIGNED.values()])?;
            Ok(Self { adam, lengths: lengths.to_vec(), moments: Mutex::new(moments) })
        }

        fn moments(&self) -> std::sync::MutexGuard<'_, native::AdamW8bit> {
            self.moments.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }

    impl DeviceOptimizer for AdamW8bit {
        fn step(&mut self, step: usize, learning_rate: f64, weights: &Tensor, gradients: Clipped) -> Result<()> {
            let rule = self.adam.at(step, learning_rate);
            let rule = native::Rule {
                keep: rule.keep,
                new_first: rule.new_first,
                beta2: rule.beta2,
                new_second: rule.new_second,
                rate: rule.rate,
                root: rule.root,
                epsilon: rule.epsilon,
            };
            let step = Step { moments: &self.moments, rule, most: gradients.most as f32 };
            Ok(weights.inplace_op3(gradients.gradients, gradients.squares, &step)?)
        }

        fn save(&self, file: &mut TensorFile) -> Result<()> {
            let moments: Vec<_> = self.moments().moments()?.into_iter().map(from_native).collect();
            adamw8bit::save(&moments, file);
            Ok(())
        }

        fn restore(&mut self, file: &TensorFile) -> Result<()> {
            let mut moments: Vec<_> = self.lengths.iter().map(|&length| Moments::zero(length)).collect();
            adamw8bit::restore(&mut moments, file)?;
            let moments: Vec<_> = moments.into_iter().map(to_native).collect();
            Ok(self.moments().restore(&moments)?)
        }
    }

    /// Writes the weights, reads gradients and their sum of squares.
    struct Step<'a> {
        moments: &'a Mutex<native::AdamW8bit>,
        rule: native::Rule,
        most: f32,
    }

    impl InplaceOp3 for Step<'_> {
        fn name(&self) -> &'static str {
            "adamw8bit"
        }

        fn cpu_fwd(
            &self,
            _: &mut CpuStorage,
            _: &Layout,
            _: &CpuStorage,
            _: &Layout,
            _: &CpuStorage,
            _: &Layout,
        ) -> candle_core::Result<()> {
            candle_core::bail!("the CPU's optimiser works on the host's buffers")
        }

        fn cuda_fwd(
            &self,
            weights: &mut CudaStorage,
            _: &Layout,
            gradients: &CudaStorage,
            layout: &Layout,
            squares: &CudaStorage,
            _: &Layout,
        ) -> candle_core::Result<()> {
            let mut moments = self.moments.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            moments.step(self.rule, weights, (gradients, layout), Some((squares, self.most)))
        }
    }

    fn from_native(moments: native::Moments) -> Moments {
        match moments {
            native::Moments::Full { first, second } => Moments::Full { first, second },
            native::Moments::Quantised { first, first_scale, second, second_scale } => {
                Moments::Quantised { first, first_scale, second, second_scale }
            }
        }
    }

    fn to_native(moments: Moments) -> native::Moments {
        match moments {
            Moments::Full { first, second } => native::Moments::Full { first, second },
            Moments::Quantised { first, first_scale, second, second_scale } => {
                native::Moments::Quantised { first, first_scale, second, second_scale }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::{self, Optimizer};
    use crate::random::{self, Purpose};

    /// Twenty steps of the two, with gradients that must be clipped and gradients that need not be.
    #[test]
    fn follows_the_hosts_optimiser() -> Result<()> {
        const COUNT: usize = 300;
        let adam = Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 1e-2 };
        let mut rng = random::keyed(5, Purpose::Noise, &[]);
        let mut host_weights = random::normal(&mut rng, COUNT);
        let weights = Tensor::from_slice(&host_weights, COUNT, &Device::Cpu)?;
        let (mut host, mut device) = (optimizer::AdamW::new(adam, COUNT), AdamW::new(adam, COUNT, &Device::Cpu)?);
        for step in 1..=20 {
            let mut gradients = random::normal(&mut rng, COUNT);
            gradients.iter_mut().for_each(|gradient| *gradient *= if step % 2 == 0 { 1.0 } else { 0.01 });
            let on_device = Tensor::from_slice(&gradients, COUNT, &Device::Cpu)?;
            let squares = engine::device::sum_of_squares(&on_device)?;
            optimizer::clip(&mut gradients, 1.0);
            host.step(step, 0.01, &mut host_weights, &gradients);
            device.step(step, 0.01, &weights, Clipped { gradients: &on_device, squares: &squares, most: 1.0 })?;
        }
        for (host, device) in host_weights.iter().zip(weights.to_vec1::<f32>()?) {
            assert!((host - device).abs() < 1e-5, "{host} {device}");
        }
        let (mut from_host, mut from_device) = (TensorFile::default(), TensorFile::default());
        host.save(&mut from_host);
        device.save(&mut from_device)?;
        AdamW::new(adam, COUNT, &Device::Cpu)?.restore(&from_host)?;
        optimizer::AdamW::new(adam, COUNT).restore(&from_device)
    }
}
