//! How far a run is: told to its watchers at every step, written to its row once a second.

use super::events::Hub;
use crate::store::{Claim, Claimed, Error, Result, Store};
use app::api::{Event, Progress, Run};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// One attempt's voice.
pub struct Reporter {
    store: Store,
    hub: Arc<Hub>,
    claim: Claim,
    run: Run,
    clock: Clock,
    saved: Instant,
}

impl Reporter {
    pub fn new(store: Store, hub: Arc<Hub>, claimed: &Claimed) -> Self {
        let run = claimed.run.clone();
        let clock = Clock::new(run.progress.elapsed_s);
        let reporter = Self { store, hub, claim: claimed.claim.clone(), run, clock, saved: Instant::now() };
        reporter.snapshot();
        reporter
    }

    pub async fn progress(&mut self, phase: &str, done: u32, total: u32) -> Result<()> {
        const BETWEEN_WRITES: Duration = Duration::from_secs(1);
        let changed = self.run.progress.phase != phase;
        self.run.progress = self.clock.read(phase, done, total);
        self.snapshot();
        if !changed && self.saved.elapsed() < BETWEEN_WRITES {
            return Ok(());
        }
        self.saved = Instant::now();
        match self.store.save_progress(&self.claim, &self.run.progress).await {
            // Progress that is not written down is no reason to end a training: what matters is written elsewhere.
            Err(Error::DiskFull | Error::Database(_)) => Ok(()),
            result => result,
        }
    }

    pub fn send(&mut self, event: Event) {
        if let Event::Picture { picture } = &event {
            self.run.pictures.push(picture.id.clone());
            self.snapshot();
        }
        self.hub.send(&self.claim.run, event);
    }

    fn snapshot(&self) {
        self.hub.send(&self.claim.run, Event::Snapshot { run: self.run.clone() });
    }

    /// Writes down where things stand: rows lag behind snapshots.
    pub async fn settle(&self) -> Result<()> {
        self.store.save_progress(&self.claim, &self.run.progress).await
    }
}

/// Elapsed time over all attempts; remaining time from the pace of the present phase.
struct Clock {
    started: Instant,
    before_s: f64,
    phase: String,
    phase_started: Instant,
    phase_done: u32,
}

impl Clock {
    fn new(before_s: f64) -> Self {
        let now = Instant::now();
        Self { started: now, before_s, phase: String::new(), phase_started: now, phase_done: 0 }
    }

    fn read(&mut self, phase: &str, done: u32, total: u32) -> Progress {
        if self.phase != phase {
            (self.phase, self.phase_started, self.phase_done) = (phase.to_owned(), Instant::now(), done);
        }
        let (steps, seconds) = (done.saturating_sub(self.phase_done), self.phase_started.elapsed().as_secs_f64());
        let remaining_s = (steps > 0).then(|| seconds / f64::from(steps) * f64::from(total.saturating_sub(done)));
        let elapsed_s = self.before_s + self.started.elapsed().as_secs_f64();
        Progress { phase: phase.to_owned(), done, total, elapsed_s, remaining_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_time_follows_the_pace_of_the_phase() {
        let mut clock = Clock::new(100.0);
        assert_eq!(clock.read("encoding", 3, 10).remaining_s, None);
        std::thread::sleep(Duration::from_millis(20));
        let later = clock.read("encoding", 5, 10);
        assert!(later.elapsed_s >= 100.02 && later.remaining_s.unwrap() >= 0.05, "{later:?}");
        assert_eq!(clock.read("drawing", 0, 10).remaining_s, None);
    }
}
