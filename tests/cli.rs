//! The program as a person runs it: what it makes, what it says, and how it leaves.

#[path = "cli/bad_input.rs"]
mod bad_input;
#[path = "cli/formats.rs"]
mod formats;
#[path = "cli/generate.rs"]
mod generate;
#[path = "cli/help.rs"]
mod help;
#[path = "cli/parity.rs"]
mod parity;
#[path = "cli/program.rs"]
mod program;
#[path = "cli/token.rs"]
mod token;
#[path = "cli/tools.rs"]
mod tools;
#[path = "cli/train.rs"]
mod train;
