//! How a step hears that it is to be the last.

use std::sync::atomic::{AtomicU8, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The visitor wants no more of it; what is done is kept.
    Asked,
    /// The process ends; the next one goes on.
    Leaving,
}

/// Read between two steps, written from anywhere.
#[derive(Debug, Default)]
pub struct StopSignal(AtomicU8);

impl StopSignal {
    pub fn set(&self, stop: Stop) {
        let value = match stop {
            Stop::Asked => 1,
            Stop::Leaving => 2,
        };
        // The first word counts: a run that was asked to stop is not taken up again because the process ends too.
        let _ = self.0.compare_exchange(0, value, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub fn get(&self) -> Option<Stop> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Stop::Asked),
            _ => Some(Stop::Leaving),
        }
    }
}
