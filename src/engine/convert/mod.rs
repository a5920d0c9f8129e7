//! A model written in another form, tensor by tensor: quantised, or with adapters baked in. No more than one layer is in memory at a time.

mod bake;
mod encode;
mod form;
mod gguf;
mod parameters;
mod pipeline;
mod sink;

pub use form::Form;

use crate::{
    Adapter, Error, Model, Result,
    adapter::TEXT_ENCODER,
    checkpoint::{Checkpoint, contents},
};
use bake::Bake;
use candle_core::{DType, Device, Tensor};
use encode::Encoded;
use parameters::Parameter;
use sink::Sink;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// What a conversion is told.
pub struct Conversion<'a> {
    pub form: Form,
    /// Baked into the weights, with a strength each, before they are quantised.
    pub adapters: &'a [(Arc<Adapter>, f64)],
}

/// How far a layer's weight is from what it was, after its form was chosen: |Ŵ − W| / |W|.
#[derive(Clone, Debug)]
pub struct LayerError {
    pub part: &'static str,
    pub layer: String,
    pub error: f64,
}

/// What was written.
#[derive(Clone, Debug, Default)]
pub struct Converted {
    /// Of every layer that was quantised.
    pub errors: Vec<LayerError>,
    pub bytes: u64,
    /// Modules of the adapters that found their layer, and those that did not with the reason.
    pub baked: usize,
    pub left_out: Vec<(String, String)>,
}

impl Conversion<'_> {
    /// Writes `model` to `out`: a folder in diffusers layout, or a single file of the transformer, as the form has it.
    pub fn run(&self, model: &Model, out: &Path, on_layer: &mut dyn FnMut(&LayerError)) -> Result<Converted> {
        if out.exists() {
            return Err(Error::model(out, "is there already; give a name that is not taken"));
        }
        let (mut done, mut bake) = (Converted::default(), Bake::new(self.adapters));
        if self.form.is_file() {
            self.part(model, contents::TRANSFORMER, out, &mut bake, &mut |error| {
                on_layer(&error);
                done.errors.push(error);
            })?;
            bake.skip(TEXT_ENCODER, "this form holds the transformer alone");
        } else {
            // Beside its place until it is whole.
            let mut folder = out.as_os_str().to_owned();
            folder.push(".part");
            let folder = PathBuf::from(folder);
            let _ = std::fs::remove_dir_all(&folder);
            let mut parts = vec![contents::TRANSFORMER, contents::T5];
            if bake.has(TEXT_ENCODER) || model.part(contents::CLIP, &Device::Cpu)?.folder().is_none() {
                parts.push(contents::CLIP);
            }
            for &part in &parts {
                self.part(model, part, &folder.join(part), &mut bake, &mut |error| {
                    on_layer(&error);
                    done.errors.push(error);
                })?;
            }
            pipeline::rest(model, &folder, &parts)?;
            std::fs::rename(&folder, out)?;
        }
        done.bytes = size(out)?;
        (done.baked, done.left_out) = bake.finish()?;
        Ok(done)
    }

    /// Writes one part: into its folder, or as the file that it is.
    fn part(&self, model: &Model, part: &'static str, out: &Path, bake: &mut Bake, on_layer: &mut dyn FnMut(LayerError)) -> Result<()> {
        let checkpoint = model.part(part, &Device::Cpu)?;
        // CLIP is small, and is not quantised by anybody.
        let form = if part == contents::CLIP { Form::Bf16 } else { self.form };
        let parameters = parameters::of(part, &checkpoint, form)?;
        let mut sink = Sink::create(out, part, form, &parameters)?;
        for parameter in &parameters {
            let weight = bake.onto(part, parameter, read(&checkpoint, parameter)?)?;
            let Encoded { tensors, values } = encode::encode(form, parameter, &weight)?;
            if let Some(values) = values {
                on_layer(LayerError { part, layer: parameter.layer().to_owned(), error: relative(&values, &weight)? });
            }
            sink.write(parameter, tensors)?;
        }
        sink.finish(model, part, form)
    }
}

/// All of a parameter in f32: the parts that it is made of, one under the other.
fn read(checkpoint: &Checkpoint, parameter: &Parameter) -> Result<Tensor> {
    let take = |(key, shape): &(String, Vec<usize>)| Ok(checkpoint.take(key, shape, &Device::Cpu)?.to_dtype(DType::F32)?);
    let parts = parameter.parts.iter().map(take).collect::<Result<Vec<_>>>()?;
    parameter.arranged(&parts)
}

fn relative(values: &Tensor, weight: &Tensor) -> Result<f64> {
    let norm = |x: &Tensor| -> Result<f64> { Ok(f64::from(x.sqr()?.mean_all()?.to_scalar::<f32>()?).sqrt()) };
    let size = norm(weight)?;
    Ok(if size == 0.0 { 0.0 } else { norm(&(values - weight)?)? / size })
}

/// Bytes of a file, or of all files below a folder.
fn size(path: &Path) -> Result<u64> {
    if path.is_file() {
        return Ok(path.metadata()?.len());
    }
    std::fs::read_dir(path)?.map(|entry| size(&entry?.path())).sum()
}
