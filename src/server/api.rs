//! What the pages may ask for, answered: checks first, then the store or the queue.

use super::{
    checks,
    error::refuse,
    sign_in::{Grant, SignIn},
    style_sets::StyleSets,
    visitor::{Member, Visitor},
};
use crate::{
    hub::Token,
    jobs::{Jobs, device::Loading, import, publish::Publishing, resident::Facts, training::TrainJob},
    store::Owner,
};
use app::api::*;
use async_trait::async_trait;
use std::sync::Arc;

/// The system for one visitor.
pub struct StudioApi {
    pub jobs: Jobs,
    pub publishing: Publishing,
    pub style_sets: Arc<StyleSets>,
    pub sign_in: Option<Arc<SignIn>>,
    pub visitor: Visitor,
    /// What the visitor may see.
    pub owner: Owner,
}

impl StudioApi {
    /// `None` while the model is being loaded.
    fn facts_now(&self) -> Option<Arc<Facts>> {
        match self.jobs.device.loading() {
            Loading::Ready(facts) => Some(facts),
            Loading::Waiting | Loading::Failed(_) => None,
        }
    }

    /// Whoever changes something is somebody.
    fn maker(&self) -> ApiResult<Owner> {
        self.visitor.maker()
    }

    fn member(&self) -> ApiResult<(&SignIn, &Member)> {
        let sign_in = self.sign_in.as_deref().ok_or_else(|| ApiError::new(404, "Nobody signs in here."))?;
        Ok((sign_in, self.visitor.member()?))
    }

    /// Who signed in publishes with the permission of their own; the person at this machine with what was typed, if anything was.
    fn publishing_token(&self, typed: Option<String>) -> ApiResult<Option<Token>> {
        if let Visitor::Local = self.visitor {
            let typed = typed.filter(|text| !text.trim().is_empty());
            return typed.map(|text| Token::new(&text)).transpose().map_err(|error| refuse(error.to_string()));
        }
        let grant = self.visitor.member()?.grant.as_ref();
        Grant::token(grant).map(Some).map_err(|why| ApiError::new(401, why))
    }

    fn publisher(&self, usual: Publisher) -> Publisher {
        match &self.visitor {
            Visitor::Local => usual,
            Visitor::Stranger { .. } => Publisher::SignIn("Sign in to publish under your own name.".into()),
            Visitor::Member(member) => match Grant::token(member.grant.as_ref()) {
                Ok(_) => Publisher::SignedIn(member.user.username.clone()),
                Err(why) => Publisher::SignIn(why),
            },
        }
    }
}

#[async_trait]
impl Api for StudioApi {
    async fn studio(&self) -> ApiResult<Studio> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let Some(facts) = self.facts_now() else {
            let (model, device) = ("loading".to_owned(), String::new());
            return Ok(Studio {
                version,
                model,
                device,
                sizes: vec![("Square".into(), 256, 256)],
                default_steps: 20,
                default_guidance: 3.5,
                ready: false,
            });
        };
        Ok(Studio {
            version,
            model: facts.model.clone(),
            device: facts.device.clone(),
            sizes: facts.sizes(),
            default_steps: facts.default_steps(),
            default_guidance: 3.5,
            ready: true,
        })
    }

    async fn account(&self) -> ApiResult<Account> {
        Ok(self.visitor.account())
    }

    async fn sign_in_code(&self) -> ApiResult<String> {
        let (sign_in, member) = self.member()?;
        Ok(sign_in.code(member))
    }

    async fn look_at_everyone(&self, everyone: bool) -> ApiResult<()> {
        let (sign_in, member) = self.member()?;
        if !member.host {
            return Err(ApiError::new(403, "Only whose studio it is sees everybody's work."));
        }
        Ok(sign_in.look_at_everyone(member, everyone).await?)
    }

    async fn generate(&self, request: GenerateRequest) -> ApiResult<RunId> {
        checks::generate(&request, self.facts_now().as_deref())?;
        Ok(self.jobs.generate(&self.maker()?, request).await?)
    }

    async fn compare(&self, request: CompareRequest) -> ApiResult<ComparisonId> {
        checks::compare(&request, self.facts_now().as_deref())?;
        Ok(self.jobs.compare(&self.maker()?, request).await?)
    }

    async fn comparison(&self, id: ComparisonId) -> ApiResult<Comparison> {
        let mut comparison = self.jobs.store.comparison(&self.owner, &id).await?;
        comparison.run = self.jobs.hub.newest(comparison.run);
        Ok(comparison)
    }

    async fn comparisons(&self, limit: usize) -> ApiResult<Vec<Comparison>> {
        Ok(self.jobs.store.comparisons(&self.owner, limit).await?)
    }

    async fn vote(&self, vote: Vote) -> ApiResult<Tally> {
        let adapter = self.jobs.store.save_vote(&self.maker()?, &vote).await?;
        self.tally(adapter).await
    }

    async fn tally(&self, adapter: AdapterId) -> ApiResult<Tally> {
        Ok(self.jobs.store.tally(&self.owner, &adapter).await?)
    }

    async fn pictures(&self, filter: PictureFilter) -> ApiResult<Vec<Picture>> {
        Ok(self.jobs.store.pictures(&self.owner, &filter).await?)
    }

    async fn picture(&self, id: PictureId) -> ApiResult<Picture> {
        Ok(self.jobs.store.picture(&self.owner, &id).await?)
    }

    async fn delete_picture(&self, id: PictureId) -> ApiResult<()> {
        Ok(self.jobs.store.delete_picture(&self.maker()?, &id).await?)
    }

    async fn sample_sets(&self) -> ApiResult<Vec<SampleSet>> {
        Ok(self.style_sets.list())
    }

    async fn use_sample_set(&self, name: String) -> ApiResult<DatasetId> {
        let owner = self.maker()?;
        let found = self.style_sets.find(&name).ok_or_else(|| ApiError::new(404, "There is no such sample set."))?;
        let (set, folder) = found;
        let items = import::read(folder, None).await?;
        let _room = self.jobs.room_for(&owner, import::bytes(&items)).await?;
        Ok(self.jobs.store.create_dataset(&owner, &set.title, Some(&set.trigger), items).await?)
    }

    async fn datasets(&self) -> ApiResult<Vec<DatasetInfo>> {
        Ok(self.jobs.store.datasets(&self.owner).await?)
    }

    async fn dataset(&self, id: DatasetId) -> ApiResult<DatasetInfo> {
        Ok(self.jobs.store.dataset(&self.owner, &id).await?)
    }

    async fn set_caption(&self, dataset: DatasetId, item: String, caption: String) -> ApiResult<()> {
        let caption = checks::caption(&caption)?;
        Ok(self.jobs.store.set_caption(&self.maker()?, &dataset, &item, &caption).await?)
    }

    async fn set_trigger(&self, dataset: DatasetId, trigger: String) -> ApiResult<()> {
        let owner = self.maker()?;
        let trigger = checks::trigger(&trigger)?;
        let phrase = trigger.clone().unwrap_or_default();
        let set = self.jobs.store.dataset(&owner, &dataset).await?;
        for item in &set.items {
            checks::caption(&import::with_trigger(&item.caption, &phrase))
                .or_else(|error| if trigger.is_none() { Ok(String::new()) } else { Err(error) })?;
        }
        Ok(self.jobs.store.set_trigger(&owner, &dataset, trigger.as_deref(), |caption| import::with_trigger(caption, &phrase)).await?)
    }

    async fn remove_item(&self, dataset: DatasetId, item: String) -> ApiResult<()> {
        Ok(self.jobs.store.remove_item(&self.maker()?, &dataset, &item).await?)
    }

    async fn delete_dataset(&self, id: DatasetId) -> ApiResult<()> {
        Ok(self.jobs.store.delete_dataset(&self.maker()?, &id).await?)
    }

    async fn recipes(&self) -> ApiResult<Vec<RecipeInfo>> {
        Ok(self.jobs.recipes().await?)
    }

    async fn predict(&self, request: TrainRequest) -> ApiResult<Prediction> {
        let set = self.jobs.store.dataset(&self.owner, &request.dataset).await?;
        Ok(self.jobs.predict(&request, set).await?)
    }

    async fn train(&self, request: TrainRequest) -> ApiResult<RunId> {
        let owner = self.maker()?;
        let request = TrainRequest { name: checks::name(&request.name)?, ..request };
        let set = self.jobs.store.dataset(&owner, &request.dataset).await?;
        Ok(self.jobs.train(&owner, request, set).await?)
    }

    async fn training(&self, run: RunId) -> ApiResult<TrainingDetail> {
        let store = &self.jobs.store;
        let kind = store.run(&self.owner, &run).await?.kind;
        if kind != RunKind::Train {
            return Err(ApiError::new(404, "This run is not a training."));
        }
        let (row, job, last_checkpoint): (_, TrainJob, _) = store.run_with_request(&self.owner, &run).await?;
        Ok(TrainingDetail {
            run: self.jobs.hub.newest(row),
            request: job.request,
            dataset_name: job.dataset_name,
            losses: store.losses(&run, 0).await?,
            samples: store.samples(&run).await?,
            last_checkpoint,
            adapter: store.adapter_of(&run).await?,
        })
    }

    async fn runs(&self, active: bool, limit: usize) -> ApiResult<Vec<Run>> {
        let runs = self.jobs.store.runs(&self.owner, active, limit).await?;
        Ok(runs.into_iter().map(|run| self.jobs.hub.newest(run)).collect())
    }

    async fn run(&self, id: RunId) -> ApiResult<Run> {
        Ok(self.jobs.hub.newest(self.jobs.store.run(&self.owner, &id).await?))
    }

    async fn stop(&self, id: RunId) -> ApiResult<()> {
        Ok(self.jobs.stop(&self.maker()?, &id).await?)
    }

    async fn resume(&self, id: RunId) -> ApiResult<()> {
        Ok(self.jobs.resume(&self.maker()?, &id).await?)
    }

    async fn adapters(&self) -> ApiResult<Vec<AdapterInfo>> {
        Ok(self.jobs.store.adapters(&self.owner).await?)
    }

    async fn adapter(&self, id: AdapterId) -> ApiResult<AdapterInfo> {
        Ok(self.jobs.store.adapter(&self.owner, &id).await?)
    }

    async fn rename_adapter(&self, id: AdapterId, name: String) -> ApiResult<()> {
        Ok(self.jobs.store.rename_adapter(&self.maker()?, &id, &checks::name(&name)?).await?)
    }

    async fn delete_adapter(&self, id: AdapterId) -> ApiResult<()> {
        Ok(self.jobs.store.delete_adapter(&self.maker()?, &id).await?)
    }

    async fn review_publication(&self, adapter: AdapterId, request: Option<PublishRequest>) -> ApiResult<PublishReview> {
        let review = self.publishing.review(&self.owner, &adapter, request).await?;
        Ok(PublishReview { publisher: self.publisher(review.publisher), ..review })
    }

    async fn publish(&self, adapter: AdapterId, request: PublishRequest, token: Option<String>) -> ApiResult<()> {
        Ok(self.publishing.start(&self.maker()?, &adapter, request, self.publishing_token(token)?).await?)
    }

    async fn publish_state(&self, adapter: AdapterId) -> ApiResult<Option<PublishState>> {
        self.jobs.store.adapter(&self.owner, &adapter).await?;
        Ok(self.publishing.state(&adapter))
    }

    async fn unpublish(&self, adapter: AdapterId, repo: String, token: Option<String>) -> ApiResult<()> {
        Ok(self.publishing.unpublish(&self.maker()?, &adapter, &repo, self.publishing_token(token)?).await?)
    }
}
