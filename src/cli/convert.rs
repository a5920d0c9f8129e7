//! What `atelier quantize` and `atelier merge` share: a model written in another form, with a table of what each layer lost.

use super::{
    arguments::ModelArguments,
    fault::usage,
    output::{self, note, say},
    progress,
};
use anyhow::Result;
use clap::Args;
use engine::{
    Adapter, Device, GenerateParams, Model, Pipeline, Size, Tensor,
    checkpoint::Chosen,
    convert::{Conversion, Converted, Form, LayerError},
    memory::Sizes,
};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// Where the model goes, and how it is told.
#[derive(Args, Debug)]
pub struct Output {
    /// The folder or file to write
    #[arg(long, short, value_name = "DIR|FILE")]
    pub out: PathBuf,
    /// Print what was written as JSON
    #[arg(long)]
    pub json: bool,
}

/// A conversion as the command line has it.
pub struct Wanted<'a> {
    pub model: &'a ModelArguments,
    pub form: Form,
    pub output: &'a Output,
    pub adapters: Vec<(Arc<Adapter>, f64)>,
}

/// Writes the model, loads what was written, and says how it went.
pub fn run(wanted: &Wanted) -> Result<()> {
    let (form, out) = (wanted.form, &wanted.output.out);
    match form.ending() {
        Some(ending) if out.extension().is_none_or(|end| end != ending) => {
            return Err(usage(format!("--out {}: {form} is a file that ends in .{ending}", out.display())));
        }
        None if out.extension().is_some_and(|end| end == "safetensors" || end == "gguf") => {
            return Err(usage(format!("--out {}: {form} is a folder; give a name for it", out.display())));
        }
        _ => output::check_writable(out)?,
    }
    let model = wanted.model.find()?;
    let line = progress::waiting(&format!("writing {}", out.display()));
    let conversion = Conversion { form, adapters: &wanted.adapters };
    let converted = conversion.run(&model, out, &mut |error| line.set_message(format!("{}: {}", out.display(), error.layer)));
    line.finish_and_clear();
    let converted = converted?;
    let written = reopened(wanted)?;
    // A model of FLUX.1's size takes minutes a picture on a CPU; the small one seconds.
    let cosine = if Sizes::of(&model)?.is_small() { Some(latent_cosine(model, written)?) } else { None };
    report(wanted, &converted, cosine)
}

/// The model that was written, with what its form leaves to other files.
fn reopened(wanted: &Wanted) -> Result<Model> {
    let chosen = wanted.model.chosen();
    let base = chosen.base.clone().or_else(|| Some(wanted.model.path()).filter(|path| path.is_dir()));
    let chosen = if wanted.form.is_file() { Chosen { base, ..chosen } } else { Chosen::default() };
    Ok(Model::open(&wanted.output.out, &chosen)?)
}

/// Between the latents that both models end with, from one noise and prompt.
fn latent_cosine(model: Model, written: Model) -> Result<f64> {
    const STEPS: usize = 8;
    let params = GenerateParams { steps: STEPS, ..GenerateParams::new("a lake with mountains at sunset", Size::new(256, 256)?) };
    let latents = |model: Model| -> Result<Tensor> {
        let pipeline = Pipeline::load(model, &Device::Cpu)?;
        let mut generation = pipeline.start(params.clone())?;
        while !generation.is_finished() {
            generation.step(&pipeline)?;
        }
        Ok(generation.latents().0.flatten_all()?)
    };
    let (one, other) = (latents(model)?, latents(written)?);
    let dot = |a: &Tensor, b: &Tensor| -> Result<f64> { Ok(f64::from((a * b)?.sum_all()?.to_scalar::<f32>()?)) };
    Ok(dot(&one, &other)? / (dot(&one, &one)? * dot(&other, &other)?).sqrt())
}

fn report(wanted: &Wanted, converted: &Converted, cosine: Option<f64>) -> Result<()> {
    if wanted.output.json {
        let layers: Vec<_> =
            converted.errors.iter().map(|one| serde_json::json!({"part": one.part, "layer": one.layer, "error": one.error})).collect();
        return output::say_json(&serde_json::json!({
            "out": &wanted.output.out, "form": wanted.form.name(), "bytes": converted.bytes, "layers": layers, "latent_cosine": cosine,
            "baked": converted.baked, "left_out": converted.left_out,
        }));
    }
    table(&converted.errors)?;
    say(format_args!("{}: {}, {:.1} MiB", wanted.output.out.display(), wanted.form, converted.bytes as f64 / f64::from(1 << 20)))?;
    if !wanted.adapters.is_empty() {
        say(format_args!("{} modules baked in", converted.baked))?;
    }
    converted.left_out.iter().for_each(|(path, reason)| note(format_args!("  left out: {path}: {reason}")));
    if let Some(cosine) = cosine {
        let of = if wanted.adapters.is_empty() { "of the model it was made of" } else { "of the base without adapters" };
        say(format_args!("cosine to the final latents {of}: {cosine:.6}"))?;
    }
    Ok(())
}

/// Layers of one name in all blocks: the mean error and the largest.
fn table(errors: &[LayerError]) -> Result<()> {
    let mut kinds = BTreeMap::<(&str, String), Vec<f64>>::new();
    for LayerError { part, layer, error } in errors {
        let kind: Vec<&str> =
            layer.split('.').map(|word| if word.parse::<usize>().is_ok_and(|_| is_block(layer, word)) { "*" } else { word }).collect();
        kinds.entry((*part, kind.join("."))).or_default().push(*error);
    }
    if !kinds.is_empty() {
        say(format_args!("{:<16} {:<56} {:>6} {:>10} {:>10}", "part", "layer", "count", "mean", "largest"))?;
    }
    for ((part, layer), errors) in kinds {
        let (mean, most) = (errors.iter().sum::<f64>() / errors.len() as f64, errors.iter().fold(0f64, |most, x| most.max(*x)));
        say(format_args!("{part:<16} {layer:<56} {:>6} {:>10} {:>10}", errors.len(), percent(mean), percent(most)))?;
    }
    Ok(())
}

/// Whether a number in a layer's name is its block's, and not that of a layer within.
fn is_block(layer: &str, number: &str) -> bool {
    ["blocks", "block"].iter().any(|blocks| layer.contains(&format!("{blocks}.{number}.")))
}

fn percent(error: f64) -> String {
    format!("{:.3} %", 100.0 * error)
}
