//! Modulations of the micro-steps to come. They depend on noise level, guidance and caption alone, which the seed decides long before, and on a
//! GPU their weights are a quarter of the model (beside NF4 they wait on the host): one pass over them serves many micro-steps.

use crate::recipe::targets;
use crate::{Recipe, Result};
use candle_core::Tensor;
use engine::transformer::Modulations;
use engine::{AdapterSet, Pipeline, memory};
use std::ops::Range;

/// Rows made at once: 4 MB each for FLUX.1.
const ROWS: usize = 16;

/// Micro-steps are served in windows that begin at multiples of their length, so that a resumed run makes the same rows together as a
/// straight one, in the same bits.
pub struct Ahead {
    /// Micro-steps in a window; `None` where each makes its own.
    length: Option<usize>,
    made: Option<(usize, Modulations)>,
}

/// What modulation is made from: sigma of each row, and the pooled texts, [rows, P].
pub struct Moments {
    pub sigma: Vec<f64>,
    pub pooled: Tensor,
}

impl Ahead {
    /// On a GPU, unless modulation or embedders are trained themselves.
    pub fn new(pipeline: &Pipeline, recipe: &Recipe) -> Result<Self> {
        let chosen = targets::select(&recipe.targets, pipeline.transformer.linears())?;
        let beyond = chosen.iter().all(|layer| layer.path.contains("transformer_blocks.") && !memory::is_modulation(&layer.path));
        let wanted = !pipeline.device.is_cpu() && beyond;
        Ok(Self { length: wanted.then(|| (ROWS / recipe.batch_size).max(1)), made: None })
    }

    /// Those of micro-step `index` of the run. `moments` is asked for those of a whole window.
    pub fn of(
        &mut self,
        index: usize,
        pipeline: &Pipeline,
        recipe: &Recipe,
        moments: impl FnOnce(Range<usize>) -> Result<Moments>,
    ) -> Result<Option<Modulations>> {
        let Some(length) = self.length else { return Ok(None) };
        let window = index / length;
        let made = match self.made.take() {
            Some((of, made)) if of == window => made,
            _ => {
                let Moments { sigma, pooled } = moments(window * length..(window + 1) * length)?;
                pipeline.transformer.modulations(&sigma, &vec![recipe.guidance; sigma.len()], &pooled, &AdapterSet::base())?
            }
        };
        let mine = made.narrow(index % length * recipe.batch_size, recipe.batch_size)?;
        self.made = Some((window, made));
        Ok(Some(mine))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use engine::{Model, synthetic::Synthetic};

    #[test]
    fn a_window_is_made_once_and_begins_where_it_always_does() {
        let pipeline = Pipeline::load(Model::Synthetic(Synthetic::FluxMini), &Device::Cpu).unwrap();
        let recipe = Recipe { batch_size: 2, targets: "attention".into(), ..Recipe::default() };
        assert!(Ahead::new(&pipeline, &recipe).unwrap().length.is_none(), "the CPU's micro-steps make their own");
        let mut ahead = Ahead { length: Some(4), made: None };
        let mut asked = Vec::new();
        for index in [2, 3, 4, 7, 8] {
            let made = ahead.of(index, &pipeline, &recipe, |range| {
                asked.push(range.clone());
                let rows = 2 * range.len();
                Ok(Moments { sigma: vec![0.5; rows], pooled: Tensor::zeros((rows, 128), DType::F32, &Device::Cpu)? })
            });
            assert_eq!(made.unwrap().unwrap().rows(), 2);
        }
        assert_eq!(asked, [0..4, 4..8, 8..12]);
    }
}
