//! `atelier quantize`: a model in fewer bits, as bitsandbytes, ComfyUI or GGUF have it.

use super::{
    arguments::ModelArguments,
    convert::{self, Output, Wanted},
};
use anyhow::Result;
use clap::Args;
use engine::convert::Form;
use std::process::ExitCode;

const EXAMPLES: &str = "Examples:
  atelier quantize --model /models/FLUX.1-dev --to nf4 --out /models/flux-nf4
  atelier quantize --model flux1-dev.safetensors --base /models/FLUX.1-dev --to q8_0 --out flux1-dev-Q8_0.gguf
  atelier quantize --to fp8 --out flux-mini-fp8.safetensors

nf4, int8 and bf16 are folders that diffusers loads; fp8 is ComfyUI's file, the others are GGUF. One layer is in memory at a time.";

/// Write a model in another form, with the error that each layer took
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// What to make of it
    #[arg(long = "to", value_name = "nf4|int8|fp8|q8_0|q6_k|q5_k|q5_0|q4_k|q4_0|f16|bf16")]
    form: Form,
    #[command(flatten)]
    output: Output,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { model, form, output } = arguments;
    convert::run(&Wanted { model, form: *form, output, adapters: Vec::new() })?;
    Ok(ExitCode::SUCCESS)
}
