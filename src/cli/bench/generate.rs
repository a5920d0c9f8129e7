//! `atelier bench generate`: a denoising step by the device's clock, and a picture from prompt to pixels.

use super::{
    PROMPT,
    measured::{Measured, Step},
    subject::{Subject, seconds},
};
use anyhow::Result;
use clap::Args;
use engine::{
    GenerateParams, Pipeline, Size,
    device::{self, Mark},
    flops::Flops,
    residence::Part,
};
use std::{ops::ControlFlow, process::ExitCode};

/// Time denoising steps, and whole pictures
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    subject: Subject,
    /// Denoising steps of the picture that is timed as a whole; 0 leaves it out
    #[arg(long, default_value_t = 28, value_name = "N")]
    steps: usize,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    arguments.subject.report(|pipeline, size| measure(arguments, pipeline, size), |one| in_words(arguments.steps, one))
}

/// The picture that was timed as a whole.
fn in_words(steps: usize, one: &Measured) -> Option<String> {
    let seconds = |name: &str| one.more.get(name).and_then(serde_json::Value::as_f64);
    let (picture, text, vae) = (seconds("picture_s")?, seconds("encode_s")?, seconds("decode_s")?);
    Some(format!("a picture of {} in {steps} steps: {picture:.3} s, of which text {text:.3} s and VAE {vae:.3} s", one.size))
}

fn measure(arguments: &Arguments, pipeline: &Pipeline, size: Size) -> Result<Measured> {
    let subject = &arguments.subject;
    let params = |steps| GenerateParams { steps, max_sequence_length: subject.text_tokens, ..GenerateParams::new(PROMPT, size) };
    let steps = params(subject.warm_up + subject.repeat);
    let peak = pipeline.peak(&steps.workload());
    let (seconds, peak_bytes) = denoise(pipeline, steps, subject.warm_up)?;
    let work = Flops::forward(&pipeline.transformer.config, size.tokens(), subject.text_tokens);
    let predicted_bytes = peak.transformer + peak.step;
    let step = Step { mode: "generate", size, text_tokens: subject.text_tokens, work, seconds, predicted_bytes };
    let measured = Measured::new(pipeline, step, peak_bytes).with("text_precision", pipeline.placement.text)?;
    if arguments.steps == 0 {
        return Ok(measured);
    }
    paint(pipeline, params(arguments.steps), measured)
}

/// Seconds of each step after the warm-up, and the most bytes alive meanwhile: only the transformer is there.
fn denoise(pipeline: &Pipeline, params: GenerateParams, warm_up: usize) -> Result<(Vec<f64>, Option<u64>)> {
    let mut generation = pipeline.start(params)?;
    pipeline.evict(Part::TextEncoder);
    pipeline.evict(Part::Vae);
    device::reset_peak(&pipeline.device)?;
    let mut marks = vec![Mark::now(&pipeline.device)?];
    while !generation.is_finished() {
        generation.step(pipeline)?;
        marks.push(Mark::now(&pipeline.device)?);
    }
    Ok((seconds(&marks, warm_up)?, device::peak(&pipeline.device)?))
}

/// A picture as a person waits for it, after one that brought back what was evicted.
fn paint(pipeline: &Pipeline, params: GenerateParams, measured: Measured) -> Result<Measured> {
    let predicted = pipeline.peak(&params.workload()).whole();
    pipeline.generate(GenerateParams { steps: 1, ..params.clone() }, &mut |_| ControlFlow::Continue(()))?;
    device::reset_peak(&pipeline.device)?;
    let device = &pipeline.device;
    let begun = Mark::now(device)?;
    let mut generation = pipeline.start(params)?;
    let encoded = Mark::now(device)?;
    while !generation.is_finished() {
        generation.step(pipeline)?;
    }
    let denoised = Mark::now(device)?;
    generation.finish(pipeline)?;
    let finished = Mark::now(device)?;
    measured
        .with("picture_s", finished.seconds_since(&begun)?)?
        .with("encode_s", encoded.seconds_since(&begun)?)?
        .with("decode_s", finished.seconds_since(&denoised)?)?
        .with("picture_peak_bytes", device::peak(device)?)?
        .with("picture_predicted_bytes", predicted)
}
