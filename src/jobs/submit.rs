//! From a checked request to a run in the queue. What the run needs is fixed here: seeds drawn, names known, the style set copied.

use super::{
    Jobs,
    draw::CompareJob,
    error,
    training::{DATASET_FOLDER, TrainJob},
};
use crate::store::{Claim, Error, Owner, Result, comparisons::NewComparison, new_id, runs::NewRun};
use app::api::{CompareRequest, ComparisonId, DatasetInfo, GenerateRequest, RunId, RunKind, TrainRequest};
use rand::Rng;

/// Runs of one kind that may wait; a person sees no end to more.
const MOST_WAITING: i64 = 50;

impl Jobs {
    pub async fn generate(&self, owner: &Owner, request: GenerateRequest) -> Result<RunId> {
        let _one = self.submitting.lock().await;
        self.check_room(owner, RunKind::Generate).await?;
        let mut request = GenerateRequest { seed: Some(seed(request.seed)), ..request };
        for used in &mut request.adapters {
            used.name = self.store.adapter(owner, &used.id).await?.name;
        }
        let id: RunId = new_id();
        self.store.insert_run(owner, NewRun { id: &id, kind: RunKind::Generate, title: &request.prompt, request: &request }).await?;
        self.begin(owner, id).await
    }

    pub async fn compare(&self, owner: &Owner, request: CompareRequest) -> Result<ComparisonId> {
        let _one = self.submitting.lock().await;
        self.check_room(owner, RunKind::Compare).await?;
        let adapter_name = self.store.adapter(owner, &request.adapter).await?.name;
        let job = CompareJob { seed: seed(request.seed), request, adapter_name };
        let (run, id): (RunId, ComparisonId) = (new_id(), new_id());
        let new_run = NewRun { id: &run, kind: RunKind::Compare, title: &job.request.prompt, request: &job };
        let new = NewComparison { request: &job.request, adapter_name: &job.adapter_name, seed: job.seed, cells: &job.cells() };
        self.store.insert_comparison(owner, &id, new_run, new).await?;
        self.begin(owner, run).await?;
        Ok(id)
    }

    pub async fn train(&self, owner: &Owner, request: TrainRequest, set: DatasetInfo) -> error::Result<RunId> {
        let recipe = self.recipe_for(&request, &set).await?;
        self.check_steps(owner, &recipe)?;
        let _one = self.submitting.lock().await;
        self.check_room(owner, RunKind::Train).await?;
        let id: RunId = new_id();
        let job = TrainJob { dataset_name: set.name, trigger: set.trigger, recipe, adapter: new_id(), request };
        let folder = self.store.run_folder(&id);
        let begun = async {
            self.store.snapshot_dataset(&set.id, &folder.join(DATASET_FOLDER)).await?;
            self.store.insert_run(owner, NewRun { id: &id, kind: RunKind::Train, title: &job.request.name, request: &job }).await
        };
        if let Err(error) = begun.await {
            tokio::fs::remove_dir_all(&folder).await.ok();
            return Err(error.into());
        }
        Ok(self.begin(owner, id).await?)
    }

    async fn begin(&self, owner: &Owner, id: RunId) -> Result<RunId> {
        let run = self.store.run(owner, &id).await?;
        self.enqueue(run, Claim { run: id.clone(), attempt: 0 }).await?;
        Ok(id)
    }

    async fn check_room(&self, owner: &Owner, kind: RunKind) -> Result<()> {
        self.check_share(owner).await?;
        match self.store.count_waiting(kind).await? {
            waiting if waiting >= MOST_WAITING => {
                Err(Error::Conflict(format!("{waiting} jobs are waiting already. Cancel some, or come back when they are done.")))
            }
            _ => Ok(()),
        }
    }
}

/// A new one is short enough to be read out and typed.
fn seed(wanted: Option<u64>) -> u64 {
    wanted.unwrap_or_else(|| rand::rng().random_range(0..1 << 32))
}
