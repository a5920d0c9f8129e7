//! From an error to one sentence on stderr and an exit code.

use crate::hub;
use std::{any::Any, backtrace::Backtrace, io, process::ExitCode};

/// Input that the person who typed the command can mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(String);

pub fn usage(sentence: impl Into<String>) -> anyhow::Error {
    Usage(sentence.into()).into()
}

const FAILED: u8 = 1;
const BAD_INPUT: u8 = 2;
/// 128 + SIGINT, as shells have it.
pub const STOPPED: u8 = 130;

/// Says what went wrong, and returns the code to leave with.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if error.chain().any(is_broken_pipe) {
        // Whoever read our output has seen enough (`atelier parity … | head`).
        return ExitCode::SUCCESS;
    }
    super::output::note(format_args!("error: {}", one_line(&format!("{error:#}"))));
    code(error).into()
}

/// clap's first paragraph on one line, and where to read more. Help and version are not errors.
pub fn report_usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // A reader that has left is no failure.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let help = matches!(error.kind(), clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand);
    if help {
        super::output::note(text.trim_end());
    } else {
        let paragraphs = text.split("\n\n").take_while(|part| !part.starts_with("Usage:"));
        let sentence = one_line(&paragraphs.collect::<Vec<_>>().join("; "));
        super::output::note(format_args!("{sentence} (`atelier help` tells more)"));
    }
    BAD_INPUT.into()
}

/// A fault of ours reads like any other: one sentence, no dump.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|info| {
        let message = message(info.payload());
        if message.contains("failed printing to") {
            return;
        }
        let place = info.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
        super::output::note(format_args!("error: a fault in Atelier itself at {place}: {}", one_line(message)));
        tracing::debug!(backtrace = %Backtrace::force_capture(), "fault");
    }));
}

fn message(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown")
}

fn is_broken_pipe(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(known).unwrap_or(FAILED)
}

fn known(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(engine) = cause.downcast_ref() {
        return Some(of_engine(engine));
    }
    if let Some(train) = cause.downcast_ref() {
        return Some(of_train(train));
    }
    if let Some(hub) = cause.downcast_ref() {
        return Some(of_hub(hub));
    }
    cause.is::<Usage>().then_some(BAD_INPUT)
}

fn of_engine(error: &engine::Error) -> u8 {
    match error {
        engine::Error::Invalid(_) | engine::Error::Model { .. } | engine::Error::Adapter { .. } => BAD_INPUT,
        engine::Error::Cancelled => STOPPED,
        engine::Error::OutOfMemory | engine::Error::Tensor(_) | engine::Error::Io(_) => FAILED,
    }
}

fn of_train(error: &train::Error) -> u8 {
    match error {
        train::Error::Recipe(_) | train::Error::Dataset(_) | train::Error::State(_) => BAD_INPUT,
        train::Error::Engine(inner) => of_engine(inner),
        train::Error::Io(_) => FAILED,
    }
}

/// A token, a name or a base that can be corrected; the rest is the connection's or the Hub's.
fn of_hub(error: &hub::Error) -> u8 {
    match error.status() {
        401 | 403 | 404 | 409 | 422 => BAD_INPUT,
        _ => FAILED,
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn input_and_failure_leave_with_different_codes() {
        assert_eq!(code(&usage("no")), 2);
        assert_eq!(code(&engine::Error::invalid("size").into()), 2);
        assert_eq!(code(&train::Error::Engine(engine::Error::invalid("size")).into()), 2);
        assert_eq!(code(&engine::Error::Cancelled.into()), 130);
        let full = io::Error::new(io::ErrorKind::StorageFull, "no space left");
        assert_eq!(code(&Err::<(), _>(full).context("out.png").unwrap_err()), 1);
    }
}
