//! From a message to a finished run: take it once, do it, write its last word.

use super::{
    device::{Device, Ended},
    draw,
    events::Hub,
    progress::Reporter,
    training,
};
use crate::store::{self, Claim, Claimed, Store};
use anyhow::Result;
use app::api::{Run, RunKind, RunState};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

#[derive(Clone)]
pub struct Worker {
    pub store: Store,
    pub hub: Arc<Hub>,
    pub device: Device,
    /// One run of a kind at a time, in the order they came; the device takes turns between kinds.
    slots: Arc<[Semaphore; 3]>,
}

impl Worker {
    pub fn new(store: Store, hub: Arc<Hub>, device: Device) -> Self {
        Self { store, hub, device, slots: Arc::new(std::array::from_fn(|_| Semaphore::new(1))) }
    }

    /// Does the run that the message names, if it still counts. Detached: a worker that loses its queue loses no run.
    pub async fn take(self, message: Claim) -> Result<()> {
        tokio::spawn(async move { self.work(message).await }).await?
    }

    async fn work(&self, message: Claim) -> Result<()> {
        let kind = self.store.run_of(&message).await?.kind;
        let Ok(_slot) = self.slot(kind).acquire().await else { return Ok(()) };
        let Some(claimed) = self.store.claim(&message).await? else { return Ok(()) };
        let mut reporter = Reporter::new(self.store.clone(), self.hub.clone(), &claimed);
        let end = match kind {
            RunKind::Generate | RunKind::Compare => draw::run(self, &claimed, &mut reporter).await,
            RunKind::Train => training::run(self, &claimed, &mut reporter).await,
        };
        // Where it cannot be written, the end that follows says why, or tries again.
        reporter.settle().await.ok();
        self.end(&claimed, end).await;
        Ok(())
    }

    fn slot(&self, kind: RunKind) -> &Semaphore {
        &self.slots[match kind {
            RunKind::Generate => 0,
            RunKind::Compare => 1,
            RunKind::Train => 2,
        }]
    }

    /// Returns when nothing runs; nothing begins after that.
    pub async fn drain(&self) {
        for slot in self.slots.iter() {
            if let Ok(permit) = slot.acquire().await {
                permit.forget();
                slot.close();
            }
        }
    }

    async fn end(&self, claimed: &Claimed, end: Result<Ended>) {
        let id = &claimed.claim.run;
        let error = end.as_ref().err().map(sentence);
        match &error {
            Some(error) => tracing::warn!(run = %id, error, "a run failed"),
            None => tracing::info!(run = %id, ?end, "a run ended"),
        }
        const TRIES: u32 = 5;
        for attempt in 1..=TRIES {
            match self.write_end(claimed, &end, error.as_deref()).await {
                Ok(()) => break,
                Err(problem) => tracing::error!(run = %id, %problem, attempt, "the end of a run cannot be written down"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let told = self.store.run(&claimed.owner, id).await;
        self.hub.close(told.unwrap_or_else(|_| Run { state: RunState::Failed, error, ..claimed.run.clone() }));
    }

    async fn write_end(&self, claimed: &Claimed, end: &Result<Ended>, error: Option<&str>) -> store::Result<()> {
        let claim = &claimed.claim;
        let written = match end {
            Ok(Ended::Finished) => self.store.finish_run(claim, RunState::Done, None).await,
            Ok(Ended::Stopped) => self.store.finish_run(claim, RunState::Stopped, None).await,
            Ok(Ended::Interrupted) => self.store.release_run(claim).await,
            Err(_) => self.store.finish_run(claim, RunState::Failed, error).await,
        };
        match (written, end) {
            (Err(store::Error::Fenced), _) | (Ok(()), Ok(Ended::Interrupted)) => Ok(()),
            (Ok(()), _) => self.store.discard_without_adapter(&claim.run).await,
            (failed, _) => failed,
        }
    }
}

/// What a person is told.
fn sentence(error: &anyhow::Error) -> String {
    if is_disk_full(error) {
        return "The disk is full. What was finished before is kept: free some space, then resume or try again.".into();
    }
    format!("{error:#}")
}

/// Under several layers; some of them, such as Parquet's, keep only the words.
fn is_disk_full(error: &anyhow::Error) -> bool {
    const ENOSPC: &str = "(os error 28)";
    let full = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref(), Some(store::Error::DiskFull)) || cause.downcast_ref().is_some_and(store::error::is_full)
    };
    error.chain().any(full) || error.to_string().contains(ENOSPC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_full_disk_is_told_however_deep_it_lies() {
        let io = || std::io::Error::from_raw_os_error(28);
        let train = train::Error::Io(io());
        let parquet = anyhow!("the cache cannot be used (External: {})", io());
        for error in [anyhow!(io()).context("a.png"), train.into(), store::Error::from(io()).into(), parquet] {
            assert!(sentence(&error).starts_with("The disk is full."), "{error:#}");
        }
        assert_eq!(sentence(&anyhow!("rank 0").context("recipe")), "recipe: rank 0");
    }
}
