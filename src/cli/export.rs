//! `atelier export`: one adapter as a file for another program, read back and compared first.

use super::{
    adapters,
    fault::usage,
    output::{self, say},
};
use anyhow::Result;
use clap::Args;
use engine::{Device, adapter::Target};
use std::{path::PathBuf, process::ExitCode};

const EXAMPLES: &str = "Examples:
  atelier export --adapter out/mucha --format kohya --out mucha-kohya.safetensors
  atelier export --adapter downloaded.safetensors --format diffusers --out pytorch_lora_weights.safetensors

Reads LoRA, LoHa and LoKr as diffusers, kohya, ComfyUI, OneTrainer, XLabs, PEFT and LyCORIS write them.";

/// Write an adapter for another program
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Adapter file or the folder of a training
    #[arg(long, value_name = "FILE")]
    adapter: PathBuf,
    /// Who is to read it
    #[arg(long, value_name = "diffusers|kohya|comfyui")]
    format: Target,
    /// The file to write
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Print what was written as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { format, out, .. } = arguments;
    if out.is_dir() || out.extension().is_none_or(|end| end != "safetensors") {
        return Err(usage(format!("--out {}: give a file that ends in .safetensors", out.display())));
    }
    output::check_writable(out)?;
    let adapter = adapters::read(&arguments.adapter, &Device::Cpu)?;
    let export = adapter.export(*format)?;
    output::write(out, &export.bytes)?;
    if arguments.json {
        output::say_json(&serde_json::json!({
            "file": out, "format": format.name(), "read_as": adapter.layout.name(), "modules": export.modules,
            "largest_difference": export.difference, "left_out": adapter.left_out, "bytes": export.bytes.len(),
        }))?;
    } else {
        let (name, modules, difference) = (out.display(), export.modules, export.difference);
        say(format_args!(
            "{name}: {modules} modules, written for {format} and read back; the largest difference of a weight's change is {difference:.0e}"
        ))?;
        adapters::report_left_out(&adapter);
    }
    Ok(ExitCode::SUCCESS)
}
