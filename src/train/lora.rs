//! The trainable LoRA pairs: one flat buffer of weights, and the variables on the device that show it to the model.

use crate::random::{self, Purpose};
use crate::recipe::targets;
use crate::tensor_file::TensorFile;
use crate::{Recipe, Result};
use candle_core::{Tensor, Var};
use engine::linear::LinearId;
use engine::{Adapter, AdapterSet, Device, LoraPair, Pipeline};
use std::collections::BTreeMap;

pub struct Lora {
    modules: Vec<Module>,
    scale: f64,
    /// A and B of each module in turn; the truth, of which the variables are copies.
    values: Vec<f32>,
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
        let mut lora = Self { modules, scale: recipe.alpha / recipe.rank as f64, values: Vec::new() };
        lora.values = flatten(lora.variables().iter().map(Var::as_tensor))?;
        Ok(lora)
    }

    /// All A and B, in the order of the flat buffer.
    pub fn variables(&self) -> Vec<Var> {
        self.modules.iter().flat_map(|module| [module.a.clone(), module.b.clone()]).collect()
    }

    /// Elements of each variable.
    pub fn lengths(&self) -> Vec<usize> {
        self.variables().iter().map(|variable| variable.elem_count()).collect()
    }

    pub fn parameters(&self) -> usize {
        self.values.len()
    }

    /// The pairs as the model wants them; they share the variables' memory and follow every update.
    pub fn mounted(&self) -> AdapterSet {
        let mut set = AdapterSet::base();
        for module in &self.modules {
            set.push(module.id, LoraPair { a: module.a.as_tensor().clone(), b: module.b.as_tensor().clone(), scale: self.scale });
        }
        set
    }

    /// Lets the optimiser change the weights, and shows them to the model.
    pub fn update(&mut self, change: impl FnOnce(&mut [f32])) -> Result<()> {
        change(&mut self.values);
        let mut rest = self.values.as_slice();
        for variable in self.variables() {
            let (mine, others) = rest.split_at(variable.elem_count());
            variable.set(&Tensor::from_slice(mine, variable.shape(), variable.device())?)?;
            rest = others;
        }
        Ok(())
    }

    /// A copy as a file or a generation wants it.
    pub fn to_adapter(&self, name: &str, metadata: BTreeMap<String, String>) -> Result<Adapter> {
        let pair = |module: &Module| Ok::<_, crate::Error>(LoraPair { a: copy(&module.a)?, b: copy(&module.b)?, scale: self.scale });
        let modules = self.modules.iter().map(|module| Ok((module.path.clone(), pair(module)?))).collect::<Result<_>>()?;
        Ok(Adapter { name: name.to_owned(), modules, metadata })
    }

    pub fn save(&self, file: &mut TensorFile) {
        file.put("lora", &[self.values.len()], self.values.clone());
    }

    pub fn restore(&mut self, file: &TensorFile) -> Result<()> {
        let saved = file.floats("lora", self.values.len())?;
        self.update(|values| values.copy_from_slice(saved))
    }
}

/// The tensors' elements one after the other, on the host.
pub fn flatten<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Result<Vec<f32>> {
    let mut flat = Vec::new();
    for tensor in tensors {
        flat.extend(tensor.to_device(&Device::Cpu)?.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(flat)
}

fn copy(variable: &Var) -> Result<Tensor> {
    Ok(variable.as_tensor().copy()?.detach())
}
