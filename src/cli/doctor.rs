//! `atelier doctor`: what machine, what model, what is missing, and how to mend it.

mod gpu;
mod parts;

use super::{
    arguments::ModelArguments,
    machine::Machine,
    output::{self, say},
};
use crate::config::Config;
use anyhow::Result;
use clap::Args;
use engine::{
    Model,
    device::{self, Choice},
    memory::{Peak, Placement, Sizes, Workload},
};
use parts::Part;
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

const EXAMPLES: &str = "Examples:
  atelier doctor
  atelier doctor --model /models/FLUX.1-dev --json

Leaves with 1 when something is missing that Atelier cannot work without.";

/// Look at machine and model, and say what is missing
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Good,
    /// Works, but not as well as it could.
    Slow,
    /// Atelier cannot work like this.
    Missing,
}

#[derive(Serialize)]
struct Finding {
    about: &'static str,
    verdict: Verdict,
    sentence: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<String>,
}

impl Finding {
    fn good(about: &'static str, sentence: String) -> Self {
        Self { about, verdict: Verdict::Good, sentence, cure: None }
    }

    fn slow(about: &'static str, sentence: String, cure: &str) -> Self {
        Self { about, verdict: Verdict::Slow, sentence, cure: Some(cure.into()) }
    }

    fn missing(about: &'static str, sentence: String, cure: &str) -> Self {
        Self { about, verdict: Verdict::Missing, sentence, cure: Some(cure.into()) }
    }
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let machine = Machine::look(Path::new("."));
    let folder = arguments.model.path();
    let model = arguments.model.find();
    let parts = match &model {
        Ok(Model::Folder(folder)) => parts::all(folder),
        // The files of other layouts say what they are when they are loaded.
        Ok(_) => Vec::new(),
        Err(error) => vec![Err(format!("{error:#}"))],
    };
    let needed = on_cpu(&model, &parts);
    let mut findings = of_machine(&machine);
    findings.extend(gpu::findings(&machine.gpus, &model.unwrap_or_else(|_| Model::Folder(folder.clone()))));
    findings.extend(of_model(&arguments.model, &parts, needed, &machine));
    findings.extend(of_folders());
    let healthy = findings.iter().all(|finding| finding.verdict != Verdict::Missing);
    if arguments.json {
        let parts: Vec<_> = parts.iter().filter_map(|part| part.as_ref().ok()).collect();
        output::say_json(&serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"), "machine": machine, "model": folder, "parts": parts, "findings": findings, "healthy": healthy,
        }))?;
    } else {
        print(&folder, &findings, healthy)?;
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(folder: &Path, findings: &[Finding], healthy: bool) -> Result<()> {
    say(format_args!("Atelier {}, model {}\n", env!("CARGO_PKG_VERSION"), folder.display()))?;
    for finding in findings {
        let mark = match finding.verdict {
            Verdict::Good => "ok",
            Verdict::Slow => "could be better",
            Verdict::Missing => "MISSING",
        };
        say(format_args!("{:<10} {mark:<16} {}", finding.about, finding.sentence))?;
        if let Some(cure) = &finding.cure {
            say(format_args!("{:<28}→ {cure}", ""))?;
        }
    }
    say(if healthy { "\nAtelier can work here." } else { "\nAtelier cannot work here yet; see the arrows." })?;
    Ok(())
}

fn of_machine(machine: &Machine) -> Vec<Finding> {
    const LITTLE_MEMORY: u64 = 2 << 30;
    const LITTLE_DISK: u64 = 1 << 30;
    let cores = format!("{} cores, {}, {}", machine.cores, machine.processor, machine.system);
    let memory = format!("{} of {} free", size(machine.free_memory_bytes), size(machine.memory_bytes));
    let mut findings = vec![Finding::good("processor", cores)];
    findings.push(match machine.vector_units.as_slice() {
        [] => Finding::slow(
            "vectors",
            "no vector unit that the engine has code for".into(),
            "pictures will be slow; a processor with AVX2 or better helps",
        ),
        units if units.contains(&"AVX-512") || !cfg!(target_arch = "x86_64") => Finding::good("vectors", units.join(", ")),
        units => Finding::slow("vectors", units.join(", "), "a processor with AVX-512 or AMX is two to four times faster"),
    });
    findings.push(if machine.free_memory_bytes < LITTLE_MEMORY {
        Finding::slow("memory", memory, "flux-mini needs about 1 GiB; close other programs")
    } else {
        Finding::good("memory", memory)
    });
    if let Some(free) = machine.free_disk_bytes {
        let sentence = format!("{} free here", size(free));
        findings.push(if free < LITTLE_DISK {
            Finding::slow("disk", sentence, "pictures and checkpoints need room; delete old runs or choose another folder")
        } else {
            Finding::good("disk", sentence)
        });
    }
    findings
}

/// Bytes of the weights on the CPU, which holds them in f32; what a GPU holds is said when the model is loaded.
fn on_cpu(model: &Result<Model>, parts: &[Result<Part, String>]) -> u64 {
    let Ok(model @ Model::Assembly(_)) = model else { return parts.iter().flatten().map(|part| part.parameters * 4).sum() };
    Sizes::of(model).map_or(0, |sizes| {
        let peak = Peak::of(&sizes, Placement::CPU, &Workload::generate(sizes.usual_size(), 512, 1));
        peak.transformer + peak.text_encoder + peak.vae
    })
}

fn of_model(model: &ModelArguments, parts: &[Result<Part, String>], needed: u64, machine: &Machine) -> Vec<Finding> {
    let mut findings: Vec<Finding> = parts
        .iter()
        .map(|part| match part {
            Ok(part) => Finding::good("model", part.describe()),
            Err(problem) => Finding::missing("model", problem.clone(), "fetch the model again, or give another folder with --model"),
        })
        .collect();
    let on_cpu = model.device.choice == Choice::Cpu || machine.gpus.iter().all(|gpu| !gpu.is_new_enough());
    if on_cpu && needed > machine.free_memory_bytes {
        let sentence = format!("it needs about {} of memory, and {} are free", size(needed), size(machine.free_memory_bytes));
        findings.push(Finding::missing("model", sentence, "use a machine with more memory or a smaller model such as models/flux-mini"));
    } else if parts.iter().all(Result::is_ok) {
        findings.push(loads(model));
    }
    findings
}

/// The only proof that a model is whole, and that the device takes it.
fn loads(model: &ModelArguments) -> Finding {
    let begun = Instant::now();
    match model.load() {
        Ok(pipeline) => {
            let (seconds, device) = (begun.elapsed().as_secs_f64(), device::in_words(&pipeline.device));
            Finding::good("model", format!("loads in {seconds:.1} s, in {} on {device}", pipeline.placement.precision))
        }
        Err(error) => {
            Finding::missing("model", format!("{error:#}"), "fetch the model again, give another folder with --model, or another --device")
        }
    }
}

/// What `atelier serve` needs beside the model.
fn of_folders() -> Vec<Finding> {
    let config = Config::default();
    let site = config.site_folder();
    let pages = if site.join("pkg").is_dir() {
        Finding::good("pages", format!("the web app's files are in {}", site.display()))
    } else {
        Finding::slow(
            "pages",
            format!("the web app's files are not in {}", site.display()),
            "`make build` makes them; the command line works without",
        )
    };
    let sets = crate::config::style_sets();
    let samples = if sets.is_dir() {
        Finding::good("samples", format!("sample sets are in {}", sets.display()))
    } else {
        Finding::slow("samples", "no sample sets".into(), "they are in public/style-sets of the project")
    };
    vec![pages, samples, data_folder(config.data_dir)]
}

fn data_folder(folder: PathBuf) -> Finding {
    match output::check_writable(&folder) {
        Ok(()) => Finding::good("data", format!("{} can be written", folder.display())),
        Err(error) => Finding::slow("data", error.to_string(), "give `atelier serve` another folder with --data-dir"),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64),
        _ => format!("{:.1} GiB", bytes as f64 / (1 << 30) as f64),
    }
}
