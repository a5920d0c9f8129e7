//! A Python with the package wanted: at `ATELIER_PYTHON`, in `.venv`, which `make bench` makes, or in `target/clients`, which `make test` makes.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

pub struct Python(PathBuf);

/// `None`, and a word on it, where there is none.
pub fn with(package: &str) -> Option<Python> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = [".venv", "target/clients"].map(|folder| root.join(folder).join("bin/python"));
    let import = format!("import {package}");
    let has_it = |python: &PathBuf| Command::new(python).args(["-c", &import]).output().is_ok_and(|output| output.status.success());
    let found = env::var_os("ATELIER_PYTHON").map(PathBuf::from).into_iter().chain(made).find(has_it);
    if found.is_none() {
        eprintln!(
            "SKIPPED: no Python with {package} at ATELIER_PYTHON, in .venv or in target/clients; `make test` and `make bench` make those"
        );
    }
    found.map(Python)
}

impl Python {
    /// A script on its way to be run.
    pub fn command(&self, script: &Path) -> Command {
        let mut command = Command::new(&self.0);
        command.arg(script);
        command
    }

    /// Runs a script that lies beside this file against a hub, with a cache of its own; it fails by an exception.
    #[track_caller]
    pub fn run(&self, script: &str, hub: &str, token: &str, arguments: &[&str]) {
        let home = tempfile::tempdir().unwrap();
        let output = self
            .command(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hub").join(script))
            .args(arguments)
            .env("HF_ENDPOINT", hub)
            .env("HF_TOKEN", token)
            .env("HF_HOME", home.path())
            .env("HF_HUB_DISABLE_XET", "1")
            .env("HF_HUB_DISABLE_TELEMETRY", "1")
            .output()
            .unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{script}:\n{stdout}\n{stderr}");
        println!("{stdout}");
    }
}
