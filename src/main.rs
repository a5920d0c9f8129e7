//! The `atelier` program: one subcommand a job.

fn main() -> std::process::ExitCode {
    atelier::config::leave_cores_to_the_engine();
    atelier::cli::main()
}
