//! Progress bars with the time that is left: on a terminal only, on stderr.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `length` steps. `what` stands before it; the message behind it.
pub fn bar(length: u64, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {bar:32} {pos}/{len}  {elapsed} gone, {eta} left  {msg}");
    let bar = ProgressBar::new(length).with_prefix(what.to_owned());
    style.map(|style| bar.clone().with_style(style.progress_chars("━━─"))).unwrap_or(bar)
}

/// A line that turns while something of unknown length goes on.
pub fn waiting(what: &str) -> ProgressBar {
    let line = ProgressBar::new_spinner().with_message(what.to_owned());
    line.enable_steady_tick(std::time::Duration::from_millis(120));
    line
}
