//! `--help`, `--version` and usage errors.

use super::program::{atelier, command, finish};
use std::process::Stdio;

const COMMANDS: [&str; 13] =
    ["serve", "token", "generate", "train", "compare", "publish", "export", "merge", "quantize", "inspect", "parity", "bench", "doctor"];

#[test]
fn help_names_every_command_and_each_has_help_with_an_example() {
    let help = atelier(["--help"]).good();
    for name in COMMANDS {
        assert!(help.stdout.contains(name), "{name}: {help}");
        let own = atelier([name, "--help"]).good();
        assert!(own.stdout.contains("--") && own.stdout.contains(&format!("atelier {name}")), "{own}");
    }
    assert!(atelier(["--version"]).good().stdout.contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn usage_errors_are_one_sentence() {
    atelier(["generate"]).refused("--prompt");
    atelier(["generate", "--prompt", "x", "--out", "x.png", "--speed", "9"]).refused("--speed");
    atelier(["generate", "--prompt", "x", "--out", "x.png", "--steps", "-3"]).refused("--steps");
    atelier(["paint"]).refused("paint");
    atelier(["train", "--data", "x", "--out", "y", "--resolution", "big"]).refused("WIDTHxHEIGHT");
    assert_eq!(atelier(["generate"]).code, Some(2));
    assert_eq!(atelier::<[&str; 0]>([]).code, Some(2));
}

/// `atelier --help | head -0` and the like: nobody reads, nobody panics.
#[cfg(unix)]
#[test]
fn a_closed_pipe_is_no_fault() {
    for arguments in [["--help"].as_slice(), &["doctor"], &["parity", "tests/fixtures/flux-mini"]] {
        let mut child = command().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.contains("panicked") && !said.contains("fault"), "{arguments:?}: {said}");
        assert!(output.status.code().is_some_and(|code| code < 2), "{arguments:?}: {:?} {said}", output.status);
    }
}

#[test]
fn a_closed_stderr_is_no_fault() {
    let outcome = finish(command().args(["generate", "--prompt", "x", "--out", "x.jpg"]).stderr(Stdio::null()));
    assert_eq!(outcome.code, Some(2), "{outcome}");
}
