//! The `atelier` program: one subcommand a job.

fn main() -> std::process::ExitCode {
    atelier::cli::main()
}
