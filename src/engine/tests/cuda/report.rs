//! One row a case, whatever happens in it.

use candle_core::Result;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub struct Report {
    group: String,
    failures: usize,
}

impl Report {
    pub fn new(group: &str) -> Self {
        Self { group: group.into(), failures: 0 }
    }

    pub fn failures(&self) -> usize {
        self.failures
    }

    /// A comparison: `run` returns the relative error.
    pub fn check(&mut self, name: &str, shape: impl Debug, tolerance: f64, run: impl FnOnce() -> Result<f64>) {
        let (passed, what) = match caught(run) {
            Ok(error) if error <= tolerance => (true, format!("error {error:.1e}")),
            // NaN too.
            Ok(error) => (false, format!("error {error:.1e}, at most {tolerance:.0e}")),
            Err(what) => (false, what),
        };
        self.failures += usize::from(!passed);
        self.row(if passed { "ok  " } else { "FAIL" }, name, shape, &what);
    }

    /// A time: `run` returns (median microseconds, microseconds at the ceiling).
    pub fn time(&mut self, name: &str, shape: impl Debug, run: impl FnOnce() -> Result<(f64, f64)>) {
        match caught(run) {
            Ok((median, floor)) => {
                let what = format!("{median:9.1} µs, floor {floor:9.1} µs, {:4.0} % of it", 100.0 * floor / median);
                self.row("time", name, shape, &what);
            }
            Err(what) => {
                self.failures += 1;
                self.row("FAIL", name, shape, &what);
            }
        }
    }

    fn row(&self, verdict: &str, name: &str, shape: impl Debug, what: &str) {
        println!("{verdict} {:<13} {name:<44} {:<26} {what}", self.group, format!("{shape:?}"));
    }
}

fn caught<T>(run: impl FnOnce() -> Result<T>) -> std::result::Result<T, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("panicked: {}", text.unwrap_or("")))
        }
    }
}
