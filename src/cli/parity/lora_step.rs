//! One training example: loss, gradients of every A and B, and their values after optimiser steps.

use super::{
    call::Call,
    check::{Bar, Row, norm, values},
    fixtures::{File, Fixtures},
    text,
};
use anyhow::Result;
use candle_core::Var;
use engine::{AdapterSet, DType, Device, LoraPair, Pipeline, Tensor, latents::PackedLatents, transformer::Checkpointing};
use serde::Deserialize;
use std::collections::BTreeSet;
use train::{
    objective::Example,
    optimizer::{Adam, AdamW, Optimizer},
    recipe::{Weighting, targets},
};

#[derive(Deserialize)]
struct Settings {
    caption: Option<text::Prompts>,
    max_sequence_length: Option<usize>,
    alpha: Option<f64>,
    #[serde(default)]
    use_rslora: bool,
    target_modules: Option<Targets>,
    lr: f64,
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
}

/// As PEFT takes them: last parts of a path, or an expression for all of it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Targets {
    Expression(String),
    Names(Vec<String>),
}

pub fn rows(pipeline: &Pipeline, fixtures: &Fixtures, stage: &str) -> Result<Vec<Row>> {
    let file = fixtures.file(stage)?;
    let section = if fixtures.has(stage) { stage } else { "lora_step" };
    let settings: Settings = fixtures.meta(&format!("/{section}"))?;
    let call = Call::read(&file, "x_t")?;
    let mut lora = match Lora::read(pipeline, &file, &settings)? {
        Ok(lora) => lora,
        Err(row) => return Ok(vec![row]),
    };
    let example = example(&file, &call)?;
    let keys = ["encoder_hidden_states", "pooled_projections"];
    let mut rows = text::stored_prompt(pipeline, &file, settings.caption.as_ref(), settings.max_sequence_length, keys)?;
    rows.push(chosen(pipeline, stage, settings.target_modules.as_ref(), &lora)?);
    rows.push(Row::compare(stage, "x_t", &example.noisy.0, file.get("x_t")?, Bar::EXACT)?);
    if let Some(reference) = file.get_if_any("target") {
        rows.push(Row::compare(stage, "target", &example.target, reference, Bar::EXACT)?);
    }
    if let Some(reference) = file.get_if_any("prediction") {
        rows.push(Row::compare(stage, "prediction", &call.velocity(pipeline, &lora.adapters)?, reference, Bar::STAGE)?);
    }

    let reference = Reference::read(&file, &lora)?;
    let (_, recomputed) = lora.gradients(pipeline, &call, &example, Checkpointing::Full)?;
    rows.extend(reference.compare_gradients(stage, "grad, checkpointed", &lora, &recomputed)?);

    let mut optimizer = AdamW::new(settings.adam(), lora.parameters()?.len());
    let mut losses = Vec::new();
    for step in 1..=reference.steps(&file) {
        let (loss, gradients) = lora.gradients(pipeline, &call, &example, Checkpointing::None)?;
        losses.push(loss);
        if step == 1 {
            rows.extend(reference.compare_gradients(stage, "grad", &lora, &gradients)?);
        }
        let mut parameters = lora.parameters()?;
        optimizer.step(step, settings.lr, &mut parameters, &flat(&gradients)?);
        lora.set(&parameters)?;
        rows.extend(reference.compare_weights(stage, step, settings.lr, &file, &lora)?);
    }
    if let Some(reference) = file.get_if_any("losses") {
        let ours = Tensor::new(&losses[..reference.elem_count().min(losses.len())], &Device::Cpu)?;
        rows.push(Row::compare(stage, "losses", &ours, reference, Bar::TRAINING)?);
    }
    Ok(rows)
}

impl Settings {
    fn adam(&self) -> Adam {
        Adam { beta1: self.betas[0], beta2: self.betas[1], epsilon: self.eps, weight_decay: self.weight_decay }
    }

    fn scale(&self, rank: usize) -> f64 {
        let rank = rank as f64;
        let by = if self.use_rslora { rank.sqrt() } else { rank };
        self.alpha.unwrap_or(rank) / by
    }
}

fn example(file: &File, call: &Call) -> Result<Example> {
    let packed = |key: &str| -> Result<PackedLatents> { Ok(PackedLatents(file.get(key)?.to_dtype(DType::F32)?)) };
    Ok(Example::new(&packed("x0")?, &packed("noise")?, &call.sigma, Weighting::None)?)
}

/// Trainable pairs as the reference was given them: variables in the order A, B, A, B, …
struct Lora {
    modules: Vec<String>,
    /// `MODULE.lora_A.weight`, in step with `variables`
    keys: Vec<String>,
    variables: Vec<Var>,
    adapters: AdapterSet,
}

impl Lora {
    /// `Err` is the row that says which module has no layer in this model.
    fn read(pipeline: &Pipeline, file: &File, settings: &Settings) -> Result<Result<Self, Row>> {
        let names = file.with_prefix("init.");
        let modules = names.iter().filter_map(|(key, _)| key.strip_suffix(".lora_A.weight")).map(str::to_owned).collect();
        let mut lora = Self { modules, keys: Vec::new(), variables: Vec::new(), adapters: AdapterSet::base() };
        if lora.modules.is_empty() {
            return Err(file.fault("no tensors init.MODULE.lora_A.weight"));
        }
        for module in lora.modules.clone() {
            let Some(layer) = pipeline.transformer.linears().iter().find(|layer| layer.path == module) else {
                let verdict = Err(format!("{module} is no linear layer of this model"));
                return Ok(Err(Row::verdict(&file.stage, "modules", verdict)));
            };
            let (a, b) = (lora.take(file, &module, "lora_A")?, lora.take(file, &module, "lora_B")?);
            let scale = settings.scale(a.dim(0)?);
            lora.adapters.push(layer.id, LoraPair { a, b, scale });
        }
        Ok(Ok(lora))
    }

    fn take(&mut self, file: &File, module: &str, part: &str) -> Result<Tensor> {
        let key = format!("{module}.{part}.weight");
        let variable = Var::from_tensor(&file.get(&format!("init.{key}"))?.to_dtype(DType::F32)?)?;
        let tensor = variable.as_tensor().clone();
        self.keys.push(key);
        self.variables.push(variable);
        Ok(tensor)
    }

    fn gradients(&self, pipeline: &Pipeline, call: &Call, example: &Example, checkpointing: Checkpointing) -> Result<(f64, Vec<Tensor>)> {
        let loss = |prediction: &Tensor| example.loss(prediction);
        let transformer = &pipeline.transformer;
        let (loss, gradients) =
            transformer.gradients(&call.latents, &call.step(), &self.adapters, &self.variables, checkpointing, &loss)?;
        Ok((f64::from(loss.to_scalar::<f32>()?), gradients))
    }

    fn tensors(&self) -> Vec<Tensor> {
        self.variables.iter().map(|variable| variable.as_tensor().clone()).collect()
    }

    fn parameters(&self) -> Result<Vec<f32>> {
        flat(&self.tensors())
    }

    /// The pairs inside `adapters` share the variables' storage and change with them.
    fn set(&mut self, parameters: &[f32]) -> Result<()> {
        let mut rest = parameters;
        for variable in &self.variables {
            let (head, tail) = rest.split_at(variable.elem_count());
            variable.set(&Tensor::from_slice(head, variable.dims(), variable.device())?)?;
            rest = tail;
        }
        Ok(())
    }
}

fn flat(tensors: &[Tensor]) -> Result<Vec<f32>> {
    let each = tensors.iter().map(|tensor| tensor.flatten_all()?.to_vec1::<f32>());
    Ok(each.collect::<Result<Vec<_>, _>>()?.concat())
}

/// The modules that `target_modules` means, beside those the reference trained.
fn chosen(pipeline: &Pipeline, stage: &str, wanted: Option<&Targets>, lora: &Lora) -> Result<Row> {
    let pattern = match wanted {
        None => return Ok(Row::verdict(stage, "modules", Ok(()))),
        Some(Targets::Expression(expression)) => format!("(?:{expression})"),
        Some(Targets::Names(names)) => names.join(","),
    };
    let ours: BTreeSet<&str> = match targets::select(&pattern, pipeline.transformer.linears()) {
        Ok(layers) => layers.iter().map(|layer| layer.path.as_str()).collect(),
        Err(error) => return Ok(Row::verdict(stage, "modules", Err(error.to_string()))),
    };
    let reference: BTreeSet<&str> = lora.modules.iter().map(String::as_str).collect();
    let verdict = match ours.symmetric_difference(&reference).next() {
        None => Ok(()),
        Some(module) => Err(format!("{} modules instead of {}, such as {module}", ours.len(), reference.len())),
    };
    Ok(Row::verdict(stage, format!("{} modules", reference.len()), verdict))
}

/// What the reference says of each variable.
struct Reference {
    gradients: Vec<Tensor>,
    /// Of the longest gradient. A gradient 10⁶ times shorter is rounding noise: its direction, and AdamW's first steps along it, are arbitrary.
    longest: f64,
}

impl Reference {
    const NOISE: f64 = 1e-6;

    fn read(file: &File, lora: &Lora) -> Result<Self> {
        let gradients: Vec<Tensor> = lora.keys.iter().map(|key| file.get(&format!("grad.{key}")).cloned()).collect::<Result<_>>()?;
        let norms = gradients.iter().map(norm).collect::<Result<Vec<_>>>()?;
        Ok(Self { gradients, longest: norms.into_iter().fold(0.0, f64::max) })
    }

    /// The last step that the file stores weights of, or has a loss of.
    fn steps(&self, file: &File) -> usize {
        let stored = file.with_prefix("after").into_iter().filter_map(|(rest, _)| rest.split_once('.')?.0.parse().ok());
        stored.chain(file.get_if_any("losses").map(Tensor::elem_count)).max().unwrap_or(0)
    }

    fn compare_gradients(&self, stage: &str, check: &str, lora: &Lora, ours: &[Tensor]) -> Result<Vec<Row>> {
        let floor = 100.0 * Self::NOISE * self.longest;
        let pairs = lora.keys.iter().zip(ours).zip(&self.gradients);
        let rows = pairs.map(|((key, ours), theirs)| Row::compare_above(stage, short(check, key), ours, theirs, Bar::TRAINING, floor));
        Ok(Row::group(stage, check, rows.collect::<Result<_>>()?))
    }

    fn compare_weights(&self, stage: &str, step: usize, rate: f64, file: &File, lora: &Lora) -> Result<Vec<Row>> {
        let check = format!("after{step}");
        if file.with_prefix(&format!("{check}.")).is_empty() {
            return Ok(Vec::new());
        }
        let mut rows = Vec::new();
        for ((key, ours), gradient) in lora.keys.iter().zip(lora.tensors()).zip(&self.gradients) {
            let reference = file.get(&format!("{check}.{key}"))?;
            // Along noise, each weight may move by the learning rate either way at each step.
            let noise = norm(gradient)? <= Self::NOISE * self.longest;
            let arbitrary = 2.0 * rate * step as f64 * (reference.elem_count() as f64).sqrt();
            let floor = if noise { arbitrary / 1e-3 } else { 0.0 };
            rows.push(Row::compare_above(stage, short(&check, key), &ours, reference, Bar::TRAINING, floor)?);
        }
        let mut rows = Row::group(stage, &check, rows);
        rows.extend(self.compare_movement(stage, step, file, lora)?);
        Ok(rows)
    }

    /// How far all weights together have moved, beside how far they should have: weights that stand still are close to the reference too.
    fn compare_movement(&self, stage: &str, step: usize, file: &File, lora: &Lora) -> Result<Option<Row>> {
        let (mut moved, mut expected, mut length) = (0.0, 0.0, 0.0);
        for (key, ours) in lora.keys.iter().zip(lora.tensors()) {
            let (init, reference) = (values(file.get(&format!("init.{key}"))?)?, values(file.get(&format!("after{step}.{key}"))?)?);
            for ((init, reference), ours) in init.iter().zip(&reference).zip(values(&ours)?) {
                moved += (ours - init).powi(2);
                expected += (reference - init).powi(2);
                length += init.powi(2);
            }
        }
        // f32 rounds a weight at 6e-8 of its size; a movement of 1e-5 is known to about 1 %.
        if expected.sqrt() < 1e-5 * length.sqrt() {
            return Ok(None);
        }
        let ratio = (moved / expected).sqrt();
        let verdict = if (ratio - 1.0).abs() <= 0.02 { Ok(()) } else { Err(format!("the weights moved {ratio:.3} times as far")) };
        Ok(Some(Row::verdict(stage, format!("movement after{step}"), verdict)))
    }
}

/// `grad transformer_blocks.0.attn.to_q A`
fn short(check: &str, key: &str) -> String {
    format!("{check} {}", key.replace(".lora_A.weight", " A").replace(".lora_B.weight", " B"))
}
