//! `atelier merge`: adapters baked into a base model.

use super::{
    adapters,
    arguments::ModelArguments,
    convert::{self, Output, Wanted},
    fault::usage,
};
use anyhow::Result;
use clap::Args;
use engine::{Device, convert::Form};
use std::process::ExitCode;

const EXAMPLES: &str = "Examples:
  atelier merge --adapter out/mucha:0.8 --out flux-mini-mucha
  atelier merge --model flux1-dev-Q8_0.gguf --base /models/FLUX.1-dev --adapter style.safetensors --to q8_0 --out styled.gguf

A quantised base is dequantised, changed, and quantised again in the form that --to gives; every kind of adapter can be baked in.";

/// Bake adapters into a base model
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Adapter file or the folder of a training, with its strength [default strength: 1]; may be given again
    #[arg(long = "adapter", value_name = "FILE[:SCALE]", required = true)]
    adapters: Vec<adapters::Wanted>,
    /// What to make of it
    #[arg(long = "to", default_value_t = Form::Bf16, value_name = "bf16|nf4|int8|fp8|q8_0|q6_k|q5_k|q5_0|q4_k|q4_0|f16")]
    form: Form,
    #[command(flatten)]
    output: Output,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { model, form, output, .. } = arguments;
    let adapters = arguments.adapters.iter().map(|wanted| wanted.read(&Device::Cpu)).collect::<Result<Vec<_>>>()?;
    if adapters.iter().all(|(_, strength)| *strength == 0.0) {
        return Err(usage("--adapter: at strength 0 nothing would be baked in"));
    }
    convert::run(&Wanted { model, form: *form, output, adapters })?;
    Ok(ExitCode::SUCCESS)
}
