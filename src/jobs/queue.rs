//! The queue: apalis over SQLite carries `(run, attempt)` to the workers, one queue for each kind of run.
//!
//! What apalis lacks is ours: the runs table decides whether a message still counts ([`Store::claim`]), how often a run may kill
//! its process, and what is waiting after a start. Its `setup` is not used: it turns `synchronous` off.

use super::worker::Worker;
use crate::store::{Claim, Error, Result, Store, new_id};
use apalis::prelude::*;
use apalis_sqlite::{Config, SqliteStorage};
use app::api::RunKind;
use futures::{StreamExt, stream};
use sqlx::SqlitePool;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_stream::wrappers::{IntervalStream, WatchStream};

/// After the database failed.
const BEFORE_RETRY: Duration = Duration::from_secs(2);

const KINDS: [RunKind; 3] = [RunKind::Generate, RunKind::Compare, RunKind::Train];

#[derive(Clone)]
pub struct Queue {
    pool: SqlitePool,
    /// Wakes the workers when something was pushed.
    pushed: Arc<watch::Sender<()>>,
    stopped: Arc<watch::Sender<bool>>,
}

impl Queue {
    pub async fn open(store: &Store) -> Result<Self> {
        let pool = store.open_queue().await?;
        SqliteStorage::migrations().run(&pool).await?;
        Ok(Self { pool, pushed: Arc::new(watch::channel(()).0), stopped: Arc::new(watch::channel(false).0) })
    }

    /// Forgets messages and workers of the process before.
    pub async fn clear(&self) -> Result<()> {
        sqlx::query("DELETE FROM Jobs").execute(&self.pool).await?;
        sqlx::query("DELETE FROM Workers").execute(&self.pool).await?;
        Ok(())
    }

    pub async fn push(&self, kind: RunKind, claim: Claim) -> Result<()> {
        self.storage(kind).push(claim).await.map_err(|error| Error::Io(std::io::Error::other(error.to_string())))?;
        self.pushed.send_replace(());
        Ok(())
    }

    /// One worker for each kind, so that pictures do not wait for trainings.
    pub fn start(&self, worker: &Worker) {
        for kind in KINDS {
            tokio::spawn(self.clone().attend(kind, worker.clone()));
        }
    }

    /// Workers take nothing more.
    pub fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// Keeps a worker at its queue: apalis gives up on the first failed heartbeat, as on a full disk.
    async fn attend(self, kind: RunKind, worker: Worker) {
        let mut stopped = self.stopped.subscribe();
        loop {
            let leave = async { stopped.wait_for(|stopped| *stopped).await.map(|_| ()) };
            tokio::select! {
                _ = leave => return,
                result = self.serve(kind, worker.clone()) => {
                    tracing::warn!(?kind, ?result, "the queue was left; taking it up again");
                    tokio::time::sleep(BEFORE_RETRY).await;
                }
            }
        }
    }

    async fn serve(&self, kind: RunKind, worker: Worker) -> std::result::Result<(), WorkerError> {
        // A name of its own for every start: apalis tells stale workers by it.
        let name = format!("{kind:?}-{}", new_id::<String>());
        let backend = self.storage(kind).poll_with_stream(self.wake_ups());
        WorkerBuilder::new(name).backend(backend).data(worker).build(handle).run().await
    }

    /// Something was pushed; or, should that be missed, some seconds have passed.
    fn wake_ups(&self) -> impl stream::Stream<Item = ()> + Unpin + Send + 'static {
        let pushed = WatchStream::new(self.pushed.subscribe());
        let now_and_then = IntervalStream::new(tokio::time::interval(Duration::from_secs(5))).map(|_| ());
        stream::select(pushed, now_and_then)
    }

    fn storage(&self, kind: RunKind) -> SqliteStorage<Claim> {
        let config = Config::default().queue(format!("{kind:?}")).batch_size(1);
        SqliteStorage::new(&self.pool).with_config(config)
    }
}

/// Heartbeats are sent by the task that polls this: it only waits, and the work is done elsewhere.
async fn handle(claim: Claim, worker: Data<Worker>) -> std::result::Result<(), BoxDynError> {
    let taken = Worker::clone(&worker).take(claim).await;
    if let Err(error) = &taken {
        // apalis hands a message that failed out again at once.
        tracing::error!(%error, "a run could not be taken");
        tokio::time::sleep(BEFORE_RETRY).await;
    }
    Ok(taken.map_err(|error| error.to_string())?)
}
