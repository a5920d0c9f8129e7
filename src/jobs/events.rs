//! Who watches a run: the latest snapshot is kept, changes are broadcast, the last word is never lost.

use super::stop::{Stop, StopSignal};
use app::api::{Event, Run, RunId};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::broadcast;

/// Events that a slow watcher may fall behind; it misses some then, and hears the next snapshot.
const BACKLOG: usize = 256;

/// All runs that wait or run.
#[derive(Default)]
pub struct Hub {
    live: Mutex<HashMap<RunId, Live>>,
}

struct Live {
    run: Run,
    /// The newest look at each unfinished picture.
    previews: BTreeMap<u32, Event>,
    sender: broadcast::Sender<Event>,
    stop: Arc<StopSignal>,
}

/// What a new watcher hears: how things stand, then every change.
pub struct Subscription {
    pub now: Vec<Event>,
    pub changes: broadcast::Receiver<Event>,
}

impl Hub {
    /// From here on the run can be watched.
    pub fn open(&self, run: Run) {
        let (sender, _) = broadcast::channel(BACKLOG);
        let live = Live { run: run.clone(), previews: BTreeMap::new(), sender, stop: Arc::default() };
        self.live().insert(run.id, live);
    }

    /// `None` when the run neither waits nor runs: its row says all there is.
    pub fn subscribe(&self, id: &RunId) -> Option<Subscription> {
        let live = self.live();
        let found = live.get(id)?;
        let snapshot = Event::Snapshot { run: found.run.clone() };
        let now = std::iter::once(snapshot).chain(found.previews.values().cloned()).collect();
        Some(Subscription { now, changes: found.sender.subscribe() })
    }

    /// Rows are written once a second, snapshots at every step: the newer one, where there is one.
    pub fn newest(&self, run: Run) -> Run {
        self.live().get(&run.id).map_or(run, |live| live.run.clone())
    }

    pub fn send(&self, id: &RunId, event: Event) {
        let mut live = self.live();
        let Some(found) = live.get_mut(id) else { return };
        match &event {
            Event::Snapshot { run } => found.run = run.clone(),
            Event::Preview { index, .. } => {
                found.previews.insert(*index, event.clone());
            }
            Event::Picture { .. } => found.previews.clear(),
            Event::Loss { .. } | Event::Sample { .. } => {}
        }
        // Nobody watching is no error.
        let _ = found.sender.send(event);
    }

    /// The last word on a run. Whoever missed it finds the channel closed, and the row complete.
    pub fn close(&self, run: Run) {
        if let Some(live) = self.live().remove(&run.id) {
            let _ = live.sender.send(Event::Snapshot { run });
        }
    }

    /// The process ends: watchers are let go, and find the runs again after the next start.
    pub fn close_all(&self) {
        self.live().clear();
    }

    pub fn signal(&self, id: &RunId) -> Arc<StopSignal> {
        self.live().get(id).map(|live| live.stop.clone()).unwrap_or_default()
    }

    pub fn stop(&self, id: &RunId, stop: Stop) {
        if let Some(live) = self.live().get(id) {
            live.stop.set(stop);
        }
    }

    pub fn stop_all(&self, stop: Stop) {
        self.live().values().for_each(|live| live.stop.set(stop));
    }

    /// A panic elsewhere leaves the map whole: every change to it is one call.
    fn live(&self) -> MutexGuard<'_, HashMap<RunId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
