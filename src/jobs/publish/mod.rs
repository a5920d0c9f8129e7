//! Publishing an adapter: what it will look like, the attempt in the background, and what came of it. It needs no device, so it waits
//! in no queue.

mod draft;
mod pictures;
pub mod weights;

use super::error::{Error, Result};
use crate::{
    config::HubSettings,
    hub::{self, Destination, Hub, Order, Stage, Token},
    store::{Owner, Store, now},
};
use app::api::{AdapterId, Publication, PublishRequest, PublishReview, PublishState, Publisher};
use draft::Draft;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::RwLock;

/// Cloned freely; the attempts are shared.
#[derive(Clone)]
pub struct Publishing {
    store: Store,
    settings: HubSettings,
    attempts: Arc<Mutex<HashMap<AdapterId, PublishState>>>,
    /// Read as long as an attempt goes on; written once, for good, when the process ends.
    going_on: Arc<RwLock<()>>,
}

impl Publishing {
    pub fn new(store: Store, settings: HubSettings) -> Self {
        Self { store, settings, attempts: Arc::default(), going_on: Arc::default() }
    }

    /// Nobody but the person at this machine may use the token that is configured here.
    pub fn without_token(self) -> Self {
        Self { settings: HubSettings { token: None, ..self.settings }, ..self }
    }

    /// What would be published; `None` proposes.
    pub async fn review(&self, owner: &Owner, adapter: &AdapterId, request: Option<PublishRequest>) -> Result<PublishReview> {
        let info = self.store.adapter(owner, adapter).await?;
        let published = self.store.publications(owner, adapter).await?;
        let draft = Draft::read(&self.store, owner, info, request, published.first()).await?;
        Ok(PublishReview {
            card: draft.preview(),
            adapter: draft.adapter,
            request: draft.request,
            choices: draft.choices.into_iter().map(|choice| choice.shown).collect(),
            licences: draft::licences(),
            published,
            state: self.state(adapter),
            publisher: self.publisher(),
            hub: self.settings.endpoint.clone(),
        })
    }

    pub fn state(&self, adapter: &AdapterId) -> Option<PublishState> {
        self.lock().get(adapter).cloned()
    }

    /// Checks everything that can be checked here, then goes on in the background.
    pub async fn start(&self, owner: &Owner, adapter: &AdapterId, request: PublishRequest, token: Option<Token>) -> Result<()> {
        let info = self.store.adapter(owner, adapter).await?;
        if info.training {
            return Err(Error::refused(format!(
                "{} is still being trained. Publish it when it is done, or stop its training first.",
                info.name
            )));
        }
        let hub = self.hub(token)?;
        let draft = Draft::read(&self.store, owner, info, Some(request), None).await?;
        draft.check()?;
        let order = draft.order()?;
        let leaving = |_| Error::Unavailable("Atelier is being started anew; publish when it is back.".into());
        let going_on = self.going_on.clone().try_read_owned().map_err(leaving)?;
        self.begin(adapter)?;
        let (publishing, owner, adapter) = (self.clone(), owner.clone(), adapter.clone());
        tokio::spawn(async move {
            let outcome = publishing.publish(&owner, &adapter, hub, order, draft).await;
            publishing.end(&adapter, outcome);
            drop(going_on);
        });
        Ok(())
    }

    /// Begins nothing more, and waits for what was begun: half of it would be a repository without its commit, or a commit without its row.
    pub async fn shut_down(&self) {
        const PATIENCE: Duration = Duration::from_secs(60);
        match tokio::time::timeout(PATIENCE, self.going_on.clone().write_owned()).await {
            Ok(ended) => std::mem::forget(ended),
            Err(_) => tracing::warn!("an adapter was not published in time"),
        }
    }

    /// Takes an adapter off the Hub.
    pub async fn unpublish(&self, owner: &Owner, adapter: &AdapterId, repo: &str, token: Option<Token>) -> Result<()> {
        self.store.adapter(owner, adapter).await?;
        let published = self.store.publications(owner, adapter).await?;
        if !published.iter().any(|publication| publication.repo == repo) {
            return Err(Error::refused("This adapter was not published there."));
        }
        let destination: Destination = repo.parse()?;
        hub::unpublish(&self.hub(token)?, &destination).await?;
        self.lock().remove(adapter);
        Ok(self.store.forget_publication(owner, adapter, repo).await?)
    }

    /// Whose token is used when none comes along.
    fn publisher(&self) -> Publisher {
        if self.settings.token.is_some() { Publisher::Machine } else { Publisher::Typed }
    }

    /// With the token that came along, or else the configured one.
    fn hub(&self, token: Option<Token>) -> Result<Hub> {
        let token = token.or_else(|| self.settings.token.clone());
        let ask =
            || Error::refused(format!("A token with write access is needed; make one at {}/settings/tokens.", self.settings.endpoint));
        Ok(Hub::new(&self.settings.endpoint, token.ok_or_else(ask)?)?)
    }

    async fn publish(&self, owner: &Owner, adapter: &AdapterId, hub: Hub, order: Order, draft: Draft) -> Result<Publication> {
        let weights = weights::for_diffusers(draft.adapter.name.clone(), self.store.blobs.get(&draft.weights).await?).await?;
        let tell = |stage| self.tell(adapter, &stage);
        let package = |repo: &hub::RepoId| draft.card(repo.clone()).package(weights, &draft.description);
        let done = hub::publish(&hub, &order, package, &tell).await?;
        let (repo, published_at) = (done.repo.to_string(), now());
        let publication = Publication { repo, url: done.url, commit: done.commit, private: done.private, published_at };
        self.store.save_publication(owner, adapter, &publication).await?;
        Ok(publication)
    }

    fn begin(&self, adapter: &AdapterId) -> Result<()> {
        let mut attempts = self.lock();
        if attempts.get(adapter).is_some_and(|state| state.active) {
            return Err(crate::store::Error::Conflict("This adapter is being published already; wait until that is done.".into()).into());
        }
        attempts.insert(adapter.clone(), PublishState { phase: "preparing".into(), active: true, ..PublishState::default() });
        Ok(())
    }

    fn tell(&self, adapter: &AdapterId, stage: &Stage) {
        let (phase, done, total) = match stage {
            Stage::Checking => ("asking the Hub", 0, 0),
            Stage::Uploading { done, total } => ("sending files", *done, *total),
            Stage::Committing => ("writing the commit", 0, 0),
            Stage::Comparing { done, total } => ("downloading and comparing", *done as u64, *total as u64),
        };
        if let Some(state) = self.lock().get_mut(adapter) {
            *state = PublishState { phase: phase.into(), done, total, ..state.clone() };
        }
    }

    fn end(&self, adapter: &AdapterId, outcome: Result<Publication>) {
        let ended = match outcome {
            Ok(published) => PublishState { phase: "published".into(), published: Some(published), ..PublishState::default() },
            Err(error) => {
                tracing::warn!(%adapter, %error, "an adapter could not be published");
                PublishState { phase: "failed".into(), error: Some(error.to_string()), ..PublishState::default() }
            }
        };
        self.lock().insert(adapter.clone(), ended);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AdapterId, PublishState>> {
        // What it guards is replaced whole: a panic elsewhere leaves nothing half-changed.
        self.attempts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
