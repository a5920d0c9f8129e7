//! A Python with the package wanted: at `ATELIER_PYTHON`, or in `.venv`, which `make bench` makes.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

pub struct Python(PathBuf);

/// `None`, and a word on it, where there is none.
pub fn with(package: &str) -> Option<Python> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = env::var_os("ATELIER_PYTHON").map_or_else(|| root.join(".venv/bin/python"), PathBuf::from);
    let there = Command::new(&python).args(["-c", &format!("import {package}")]).output().is_ok_and(|output| output.status.success());
    if !there {
        eprintln!("SKIPPED: no Python with {package} at ATELIER_PYTHON or in .venv; `make bench` makes one");
    }
    there.then_some(Python(python))
}

impl Python {
    /// Runs a script that lies beside this file against a hub, with a cache of its own; it fails by an exception.
    #[track_caller]
    pub fn run(&self, script: &str, hub: &str, token: &str, arguments: &[&str]) {
        let home = tempfile::tempdir().unwrap();
        let output = Command::new(&self.0)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hub").join(script))
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
