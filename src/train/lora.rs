//! The trainable LoRA pairs: variables on the device, which show the model what the optimiser's flat buffer holds.

use crate::random::{self, Purpose};
use crate::recipe::targets;
use crate::{Recipe, Result};
use candle_core::{Tensor, Var};
use engine::linear::LinearId;
use engine::{Adapter, AdapterSet, LoraPair, Pipeline};
use std::collections::BTreeMap;

pub struct Lora {
    modules: Vec<Module>,
    scale: f64,
}

struct Module {
    path: String,
    id: LinearId,
    a: Var,
    b: Var,
}

impl Lora {
    /// PEFT's `init_lora_weights="gaussian"`: A from N(0, 1/r), B zero. Each module draws from (seed, its path), so that
    /// adding targets does not change the others.
    pub fn new(pipeline: &Pipeline, recipe: &Recipe) -> Result<Self> {
        let device = &pipeline.device;
        let mut modules = Vec::new();
        for linear in targets::select(&recipe.targets, pipeline.transformer.linears())? {
            let mut rng = random::keyed(recipe.seed, Purpose::Init, &[&linear.path]);
            let a = random::normal(&mut rng, recipe.rank * linear.in_features).into_iter().map(|x| x / recipe.rank as f32).collect();
            modules.push(Module {
                path: linear.path.clone(),
                id: linear.id,
                a: Var::from_vec::<_, f32>(a, (recipe.rank, linear.in_features), device)?,
                b: Var::zeros((linear.out_features, recipe.rank), candle_core::DType::F32, device)?,
            });
        }
        Ok(Self { modules, scale: recipe.alpha / recipe.rank as f64 })
    }

    /// A and B of each module in turn: the order of the flat buffers of weights, gradients and moments.
    pub fn variables(&self) -> Vec<Var> {
        self.modules.iter().flat_map(|module| [module.a.clone(), module.b.clone()]).collect()
    }

    /// Elements of each variable.
    pub fn lengths(&self) -> Vec<usize> {
        self.variables().iter().map(|variable| variable.elem_count()).collect()
    }

    pub fn parameters(&self) -> usize {
        self.lengths().iter().sum()
    }

    /// The pairs as the model wants them; they share the variables' memory and follow every update.
    pub fn mounted(&self) -> AdapterSet {
        let mut set = AdapterSet::base();
        for module in &self.modules {
            set.push(module.id, LoraPair { a: module.a.as_tensor().clone(), b: module.b.as_tensor().clone(), scale: self.scale });
        }
        set
    }

    /// All weights one after the other, [n].
    pub fn flat(&self) -> Result<Tensor> {
        let flat: Vec<_> = self.variables().iter().map(|variable| variable.flatten_all()).collect::<candle_core::Result<_>>()?;
        Ok(Tensor::cat(&flat, 0)?)
    }

    /// Shows new weights to the model; flat: [n], on the device.
    pub fn show(&self, flat: &Tensor) -> Result<()> {
        let mut start = 0;
        for variable in self.variables() {
            let length = variable.elem_count();
            variable.set(&flat.narrow(0, start, length)?.reshape(variable.shape())?)?;
            start += length;
        }
        Ok(())
    }

    /// A copy as a file or a generation wants it.
    pub fn to_adapter(&self, name: &str, metadata: BTreeMap<String, String>) -> Result<Adapter> {
        let pair = |module: &Module| Ok::<_, crate::Error>(LoraPair { a: copy(&module.a)?, b: copy(&module.b)?, scale: self.scale });
        let pairs = self.modules.iter().map(|module| Ok((module.path.clone(), pair(module)?))).collect::<Result<Vec<_>>>()?;
        Ok(Adapter::of_pairs(name, pairs, metadata))
    }
}

fn copy(variable: &Var) -> Result<Tensor> {
    Ok(variable.as_tensor().copy()?.detach())
}
