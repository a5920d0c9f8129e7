//! Runs the real binary, and says what it did when a test fails.

use std::{
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

pub struct Outcome {
    command: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The program, in the root of the project.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atelier"));
    command
        .current_dir(root())
        .stdin(Stdio::null())
        .env_remove("ATELIER_MODEL")
        .env_remove("ATELIER_DEVICE")
        .env_remove("ATELIER_PRECISION")
        .env_remove("RUST_BACKTRACE");
    command
}

pub fn atelier<I: IntoIterator<Item: AsRef<OsStr>>>(arguments: I) -> Outcome {
    finish(command().args(arguments))
}

pub fn finish(command: &mut Command) -> Outcome {
    let output = command.output().expect("the program starts");
    Outcome {
        command: format!("{command:?}").chars().take(600).collect(),
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn fixtures() -> PathBuf {
    root().join("tests/fixtures/flux-mini")
}

impl Outcome {
    #[track_caller]
    pub fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }

    /// Refused in one sentence that holds `words`, with nothing on stdout.
    #[track_caller]
    pub fn refused(self, words: &str) -> Self {
        assert!(matches!(self.code, Some(1 | 2)), "{self}");
        assert_eq!(self.stderr.lines().count(), 1, "one line: {self}");
        assert!(self.stderr.starts_with("error: ") && self.stderr.trim().len() < 900, "{self}");
        assert!(self.stderr.to_lowercase().contains(&words.to_lowercase()), "{words:?} is not said: {self}");
        assert!(!self.stderr.contains("panicked") && !self.stderr.contains("fault in Atelier"), "{self}");
        assert!(self.stdout.is_empty(), "{self}");
        self
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self}"))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\ncode {:?}\nstdout: {}\nstderr: {}", self.command, self.code, self.stdout, self.stderr)
    }
}

/// Names of what lies in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            copy_folder(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}
