//! Every native CUDA function against its plain twin on the CPU, then against the time that its bytes or its arithmetic need; at last the
//! VAE and the transformer that are made of them. To be run from the project's folder.
//!
//!     cuda                 all groups, each in a process of its own: a fault of the GPU ends one group only
//!     cuda check [GROUP]   the comparisons of all groups, or of one, in this process
//!     cuda time [GROUP]    the same for the times
//!
//! Prints a row for each case and ends with the number of failures, which is also the exit status.

mod gpu;
mod report;

mod attention;
mod conv;
mod gemm;
mod group_norm;
mod norm;
mod optimizer;
mod qk_norm_rope;
mod quantise;
mod transformer;
mod vae;
mod weights;

use gpu::Gpu;
use report::Report;
use std::process::{Command, ExitCode};

type Run = fn(&Gpu, &mut Report);

/// (name, comparisons, times)
const GROUPS: [(&str, Run, Run); 11] = [
    ("norm", norm::check, norm::time),
    ("qk_norm_rope", qk_norm_rope::check, qk_norm_rope::time),
    ("gemm", gemm::check, gemm::time),
    ("attention", attention::check, attention::time),
    ("quantise", quantise::check, quantise::time),
    ("optimizer", optimizer::check, optimizer::time),
    ("group_norm", group_norm::check, group_norm::time),
    ("conv", conv::check, conv::time),
    ("vae", vae::check, vae::time),
    ("weights", weights::check, weights::time),
    ("transformer", transformer::check, transformer::time),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let failures = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => ["check", "time"].iter().flat_map(|what| GROUPS.map(|(group, ..)| in_a_process(what, group))).sum(),
        [what] => GROUPS.iter().map(|(group, ..)| run(what, group)).sum(),
        [what, group] => run(what, group),
        _ => panic!("usage: cuda [check|time [GROUP]]"),
    };
    println!("{failures} failures");
    ExitCode::from(failures.min(255) as u8)
}

fn in_a_process(what: &str, group: &str) -> usize {
    let program = std::env::current_exe().expect("this program has a path");
    let status = Command::new(program).args([what, group]).status().expect("this program can be started");
    match status.code() {
        Some(failures) => failures as usize,
        None => {
            println!("FAIL {what} {group}: {status}");
            1
        }
    }
}

fn run(what: &str, group: &str) -> usize {
    let (_, check, time) = GROUPS.iter().find(|(name, ..)| *name == group).expect("a group of that name");
    let gpu = Gpu::open();
    let mut report = Report::new(group);
    match what {
        "check" => check(&gpu, &mut report),
        "time" => time(&gpu, &mut report),
        other => panic!("check or time, not {other}"),
    }
    report.failures()
}
