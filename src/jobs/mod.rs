//! Long work: what a visitor asked for becomes a run, waits in a queue, and is done step by step on the one device.
//!
//! [`submit`] → [`queue`] → [`worker`] → [`draw`] or [`training`] → [`device`], heard through [`events`].

mod allowance;
pub mod device;
pub mod draw;
pub mod error;
pub mod events;
pub mod export;
pub mod import;
pub mod progress;
pub mod publish;
pub mod queue;
pub mod recipes;
pub mod resident;
pub mod stop;
pub mod submit;
pub mod training;
pub mod tryout;
pub mod worker;

pub use error::Error;

use crate::{
    config::{Config, UserLimits},
    store::{Owner, Result, Store},
};
use app::api::{Run, RunId, RunState};
use device::Device;
use events::Hub;
use queue::Queue;
use std::{sync::Arc, time::Duration};
use stop::Stop;
use tokio::sync::{Mutex, Semaphore};
use worker::Worker;

/// Adapters at a time.
const MOST_READ: usize = 2;

/// Everything that runs: made once, cloned freely.
#[derive(Clone)]
pub struct Jobs {
    pub store: Store,
    pub hub: Arc<Hub>,
    pub device: Device,
    queue: Queue,
    worker: Worker,
    limits: UserLimits,
    /// One request at a time is checked against the limits and queued: many at once would each find the same room.
    submitting: Arc<Mutex<()>>,
    /// The same for what is kept.
    keeping: Arc<Mutex<()>>,
    /// Adapters that are read whole, to be tried or written for another program: each takes several times its size.
    pub reading: Arc<Semaphore>,
}

impl Jobs {
    /// Begins to load the model, takes up what the process before left, and starts the workers.
    pub async fn start(store: Store, config: &Config) -> Result<Self> {
        let device = Device::start(config);
        let hub = Arc::new(Hub::default());
        let queue = Queue::open(&store).await?;
        let reading = Arc::new(Semaphore::new(MOST_READ));
        let worker = Worker::new(store.clone(), hub.clone(), device.clone());
        let jobs =
            Self { store, hub, device, queue, worker, limits: config.limits, submitting: Arc::default(), keeping: Arc::default(), reading };
        jobs.take_up().await?;
        tokio::spawn(jobs.clone().work());
        Ok(jobs)
    }

    /// Not before the model is there: a start with a wrong one must not fail what waits.
    async fn work(self) {
        if self.device.facts().await.is_ok() {
            self.queue.start(&self.worker);
        }
    }

    /// The runs table says what is to be done; the queue's rows of a dead process say nothing more.
    async fn take_up(&self) -> Result<()> {
        self.queue.clear().await?;
        for (kind, claim) in self.store.recover_runs().await? {
            self.hub.open(self.store.run_of(&claim).await?);
            self.queue.push(kind, claim).await?;
        }
        Ok(())
    }

    /// Asks a run to stop: at once while it waits, at its next step while it runs.
    pub async fn stop(&self, owner: &Owner, id: &RunId) -> Result<()> {
        match self.store.request_stop(owner, id).await? {
            RunState::Running => self.hub.stop(id, Stop::Asked),
            _ => {
                self.hub.close(self.store.run(owner, id).await?);
                self.store.discard_without_adapter(id).await?;
            }
        }
        Ok(())
    }

    /// A training that was stopped or failed goes on from its last checkpoint.
    pub async fn resume(&self, owner: &Owner, id: &RunId) -> Result<()> {
        let _one = self.submitting.lock().await;
        self.check_share(owner).await?;
        let claim = self.store.reopen_run(owner, id).await?;
        let run = self.store.run(owner, id).await?;
        self.enqueue(run, claim).await
    }

    /// From here on the run has watchers, and a worker will take it.
    async fn enqueue(&self, run: Run, claim: crate::store::Claim) -> Result<()> {
        let kind = run.kind;
        self.hub.open(run);
        self.queue.push(kind, claim).await
    }

    /// Takes no more work, lets every run put down what it has, and gives it back to the queue for the next start.
    pub async fn shut_down(&self) {
        const PATIENCE: Duration = Duration::from_secs(60);
        self.queue.stop();
        self.hub.stop_all(Stop::Leaving);
        if tokio::time::timeout(PATIENCE, self.worker.drain()).await.is_err() {
            tracing::warn!("a run did not put down its work in time; it goes on from its last checkpoint at the next start");
        }
    }
}
