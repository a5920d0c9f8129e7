//! Adapters baked into the weights that are written: W + strength·ΔW, and what DoRA makes of it.

use super::{Parameter, contents};
use crate::{
    Adapter, Delta, Error, Result,
    adapter::{Axis, TEXT_ENCODER},
};
use candle_core::{DType, Device, Tensor};
use std::{collections::BTreeMap, sync::Arc};

pub struct Bake<'a> {
    adapters: &'a [(Arc<Adapter>, f64)],
    /// (adapter, module) → why it has not found its layer.
    waiting: BTreeMap<(usize, String), String>,
    baked: usize,
}

impl<'a> Bake<'a> {
    pub fn new(adapters: &'a [(Arc<Adapter>, f64)]) -> Self {
        let modules = adapters.iter().enumerate().flat_map(|(i, (adapter, _))| adapter.modules.keys().map(move |path| (i, path.clone())));
        Self { adapters, waiting: modules.map(|key| (key, "this model has no such layer".to_owned())).collect(), baked: 0 }
    }

    pub fn has(&self, prefix: &str) -> bool {
        self.waiting.keys().any(|(_, path)| path.starts_with(prefix))
    }

    /// Says why those that begin so are left out.
    pub fn skip(&mut self, prefix: &str, reason: &str) {
        self.waiting.iter_mut().filter(|((_, path), _)| path.starts_with(prefix)).for_each(|(_, why)| *why = reason.to_owned());
    }

    /// A parameter with everything that belongs on it.
    pub fn onto(&mut self, part: &str, parameter: &Parameter, weight: Tensor) -> Result<Tensor> {
        if self.adapters.is_empty() || part == contents::T5 || !parameter.key.ends_with(".weight") {
            return Ok(weight);
        }
        let mut rows = Vec::new();
        let mut first = 0;
        // Before its halves are turned, a parameter's parts stand one under the other.
        let plain = parameter.arranged(std::slice::from_ref(&weight))?;
        for (key, shape) in &parameter.parts {
            let own = plain.narrow(0, first, shape[0])?;
            first += shape[0];
            let layer = key.trim_end_matches(".weight");
            let path = if part == contents::CLIP { clip_path(layer) } else { layer.to_owned() };
            rows.push(self.changed(&path, own)?);
        }
        parameter.arranged(&rows)
    }

    /// weight: [out, in] of the layer at this path.
    fn changed(&mut self, path: &str, weight: Tensor) -> Result<Tensor> {
        let mut sum = weight.clone();
        for (index, (adapter, strength)) in self.adapters.iter().enumerate() {
            let Some(delta) = adapter.modules.get(path) else { continue };
            let (outputs, inputs) = delta.update.shape();
            if weight.dims() != [outputs, inputs] {
                let why = format!("made for a layer of {inputs} to {outputs} features, but this model's is {:?}", weight.dims());
                self.waiting.insert((index, path.to_owned()), why);
                continue;
            }
            sum = (sum + (change(&weight, delta)? * *strength)?)?;
            self.waiting.remove(&(index, path.to_owned()));
            self.baked += 1;
        }
        Ok(sum)
    }

    /// How many modules were baked in, and which not. An adapter of which nothing fits is refused.
    pub fn finish(self) -> Result<(usize, Vec<(String, String)>)> {
        for (index, (adapter, _)) in self.adapters.iter().enumerate() {
            let left = self.waiting.keys().filter(|(i, _)| *i == index).count();
            if left == adapter.modules.len() {
                return Err(Error::adapter(&adapter.name, format!("none of its {left} modules fits this model")));
            }
        }
        let keys = self.adapters.iter().flat_map(|(adapter, _)| adapter.left_out.clone());
        Ok((self.baked, self.waiting.into_iter().map(|((_, path), why)| (path, why)).chain(keys).collect()))
    }
}

fn clip_path(layer: &str) -> String {
    let inner = layer.strip_prefix("text_model.").unwrap_or(layer);
    format!("{TEXT_ENCODER}text_model.{inner}")
}

/// W' − W at strength 1.
fn change(weight: &Tensor, delta: &Delta) -> Result<Tensor> {
    let delta = delta.to(&Device::Cpu, DType::F32)?;
    let update = delta.update.matrix()?;
    let Some(magnitude) = &delta.magnitude else { return Ok(update) };
    let moved = (weight + update)?;
    let (dim, values) = match magnitude.of {
        Axis::Outputs => (1, magnitude.values.unsqueeze(1)?),
        Axis::Inputs => (0, magnitude.values.unsqueeze(0)?),
    };
    let lengths = moved.sqr()?.sum_keepdim(dim)?.sqrt()?.maximum(1e-12f64)?;
    Ok((moved.broadcast_mul(&(values / lengths)?)? - weight)?)
}
