//! Ctrl-C: the first asks to stop after the present step, the second leaves at once.

use super::{fault::STOPPED, output::note};
use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicBool, Ordering},
};

static ASKED: AtomicBool = AtomicBool::new(false);

pub fn listen() {
    let answer = || {
        if ASKED.swap(true, Ordering::Relaxed) {
            std::process::exit(STOPPED.into());
        }
        note("stopping after this step; press Ctrl-C again to leave at once");
    };
    if let Err(error) = ctrlc::set_handler(answer) {
        tracing::warn!(%error, "Ctrl-C will not stop cleanly");
    }
}

pub fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// For callbacks that may break.
pub fn or_go_on() -> ControlFlow<()> {
    if asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
