//! The subcommands: what a person types, one match, one exit code.

mod adapters;
mod arguments;
mod bench;
mod compare;
mod convert;
mod doctor;
mod export;
mod fault;
mod generate;
mod inspect;
mod machine;
mod merge;
mod output;
mod parity;
mod progress;
mod publish;
mod quantize;
mod recipe;
mod serve;
mod settings;
mod stop;
mod token;
mod train;

use anyhow::Result;
use clap::{ArgAction, Parser, Subcommand};
use std::{panic, process::ExitCode, time::Instant};
use tracing::Level;

/// A studio for painting styles: generate pictures with FLUX.1, fine-tune adapters, compare, all on your own machine.
#[derive(Parser)]
#[command(name = "atelier", version, arg_required_else_help = true, subcommand_required = true)]
#[command(after_help = "Leaves with 0 when all went well, 1 on failure, 2 on input that you can mend, 130 when stopped by Ctrl-C.
Without --model the embedded models/flux-mini is used.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say more on stderr; twice for still more, three times for everything
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = 900)]
    verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Arguments),
    Token(token::Arguments),
    Generate(generate::Arguments),
    Train(train::Arguments),
    Compare(compare::Arguments),
    Publish(publish::Arguments),
    Export(export::Arguments),
    Merge(merge::Arguments),
    Quantize(quantize::Arguments),
    Inspect(inspect::Arguments),
    Parity(parity::Arguments),
    Bench(bench::Arguments),
    Doctor(doctor::Arguments),
}

pub fn main() -> ExitCode {
    let started = Instant::now();
    fault::report_panics();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return fault::report_usage(&error),
    };
    log(&cli);
    match panic::catch_unwind(|| run(&cli.command, started)) {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => fault::report(&error),
        // The panic hook has said it.
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(command: &Command, started: Instant) -> Result<ExitCode> {
    match command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Token(arguments) => token::run(arguments),
        Command::Generate(arguments) => generate::run(arguments, started),
        Command::Train(arguments) => train::run(arguments, started),
        Command::Compare(arguments) => compare::run(arguments, started),
        Command::Publish(arguments) => publish::run(arguments),
        Command::Export(arguments) => export::run(arguments),
        Command::Merge(arguments) => merge::run(arguments),
        Command::Quantize(arguments) => quantize::run(arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Parity(arguments) => parity::run(arguments),
        Command::Bench(arguments) => bench::run(arguments, started),
        Command::Doctor(arguments) => doctor::run(arguments),
    }
}

/// Logs to stderr: warnings, a server's news too; more with `-v`.
fn log(cli: &Cli) {
    let level = match (cli.verbose, &cli.command) {
        (0, Command::Serve(_)) | (1, _) => Level::INFO,
        (0, _) => Level::WARN,
        (2, _) => Level::DEBUG,
        _ => Level::TRACE,
    };
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).log_internal_errors(false).init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        super::Cli::command().debug_assert();
    }
}
