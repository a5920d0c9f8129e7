//! FlowMatchEulerDiscreteScheduler: the sigmas of a sampling, shifted by picture size.
//!
//! diffusers `schedulers/scheduling_flow_match_euler_discrete.py`, `pipelines/flux/pipeline_flux.py` (`calculate_shift`).

use crate::{Error, Model, Result, Size, checkpoint::read_json};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// scheduler/scheduler_config.json
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Scheduler {
    pub base_image_seq_len: usize,
    pub max_image_seq_len: usize,
    pub base_shift: f64,
    pub max_shift: f64,
    pub num_train_timesteps: usize,
    /// The static shift, used when `use_dynamic_shifting` is off (FLUX.1-schnell).
    pub shift: f64,
    pub use_dynamic_shifting: bool,
    time_shift_type: TimeShift,
    invert_sigmas: bool,
    shift_terminal: Option<f64>,
    stochastic_sampling: bool,
    use_beta_sigmas: bool,
    use_exponential_sigmas: bool,
    use_karras_sigmas: bool,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TimeShift {
    Exponential,
    Linear,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self {
            base_image_seq_len: 256,
            max_image_seq_len: 4096,
            base_shift: 0.5,
            max_shift: 1.15,
            num_train_timesteps: 1000,
            shift: 1.0,
            use_dynamic_shifting: false,
            time_shift_type: TimeShift::Exponential,
            invert_sigmas: false,
            shift_terminal: None,
            stochastic_sampling: false,
            use_beta_sigmas: false,
            use_exponential_sigmas: false,
            use_karras_sigmas: false,
        }
    }
}

impl Scheduler {
    pub fn load(model: &Model) -> Result<Self> {
        match model {
            Model::Folder(folder) => Self::read(folder),
            Model::Assembly(assembly) => assembly.config("scheduler"),
            Model::Synthetic(synthetic) => Ok(synthetic.config("scheduler")),
        }
    }

    fn read(model: &Path) -> Result<Self> {
        let path = model.join("scheduler").join("scheduler_config.json");
        let scheduler: Self = read_json(&path)?;
        let refused = [
            ("invert_sigmas", scheduler.invert_sigmas),
            ("shift_terminal", scheduler.shift_terminal.is_some()),
            ("stochastic_sampling", scheduler.stochastic_sampling),
            ("use_beta_sigmas", scheduler.use_beta_sigmas),
            ("use_exponential_sigmas", scheduler.use_exponential_sigmas),
            ("use_karras_sigmas", scheduler.use_karras_sigmas),
        ];
        match refused.iter().find(|(_, set)| *set) {
            Some((name, _)) => {
                Err(Error::model(path, format!("{name} is set, which no FLUX.1 model uses and this engine does not follow")))
            }
            None if scheduler.max_image_seq_len <= scheduler.base_image_seq_len => {
                Err(Error::model(path, "max_image_seq_len must be greater than base_image_seq_len"))
            }
            None => Ok(scheduler),
        }
    }

    /// mu for a picture size: linear in its token count.
    pub fn mu(&self, size: Size) -> f64 {
        let slope = (self.max_shift - self.base_shift) / (self.max_image_seq_len - self.base_image_seq_len) as f64;
        self.base_shift + slope * (size.tokens() as f64 - self.base_image_seq_len as f64)
    }

    /// `steps` + 1 sigmas: linspace(1, 1/steps), shifted, then the final 0.
    pub fn sigmas(&self, steps: usize, size: Size) -> Vec<f64> {
        let even = (0..steps).map(|i| 1.0 - i as f64 / steps as f64);
        even.map(|sigma| self.shifted(sigma, size)).chain([0.0]).collect()
    }

    /// One sigma in 0..=1 moved towards noise, the more so the larger the picture.
    pub fn shifted(&self, sigma: f64, size: Size) -> f64 {
        if sigma <= 0.0 {
            return 0.0;
        }
        let strength = match (self.use_dynamic_shifting, self.time_shift_type) {
            (false, _) => self.shift,
            (true, TimeShift::Exponential) => self.mu(size).exp(),
            (true, TimeShift::Linear) => self.mu(size),
        };
        strength / (strength + (1.0 / sigma - 1.0))
    }
}
