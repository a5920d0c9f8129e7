//! How the pages reach the system: wire types, and the one trait that the server implements.

pub mod account;
pub mod adapter;
pub mod compare;
pub mod dataset;
pub mod error;
pub mod event;
pub mod id;
pub mod limits;
pub mod picture;
pub mod publish;
pub mod run;
pub mod training;

pub use account::{Account, Member};
pub use adapter::{AdapterInfo, AdapterUse};
pub use compare::{CompareRequest, Comparison, ComparisonCell, Tally, Vote};
pub use dataset::{DatasetInfo, DatasetItem, SampleSet};
pub use error::{ApiError, ApiResult};
pub use event::Event;
pub use id::{AdapterId, ComparisonId, DatasetId, PictureId, RunId};
pub use picture::{GenerateRequest, Picture, PictureFilter};
pub use publish::{
    CardFinding, CardPreview, LicenceChoice, PictureChoice, Publication, PublishRequest, PublishReview, PublishState, Publisher,
};
pub use run::{Progress, Run, RunKind, RunState};
pub use training::{LossPoint, Prediction, RecipeInfo, RecipeSettings, Sample, TrainRequest, TrainingDetail};

/// What the pages may ask of the system. One value per visitor: the server binds it to who is asking.
#[cfg(feature = "ssr")]
#[async_trait::async_trait]
pub trait Api: Send + Sync {
    /// What this instance is: model, device, sizes, limits.
    async fn studio(&self) -> ApiResult<Studio>;

    /// Who is asking.
    async fn account(&self) -> ApiResult<Account>;
    /// One-time, for a frame that this visitor is to be signed in in too.
    async fn sign_in_code(&self) -> ApiResult<String>;
    /// For the host: lists hold everybody's work, or the host's own again.
    async fn look_at_everyone(&self, everyone: bool) -> ApiResult<()>;

    async fn generate(&self, request: GenerateRequest) -> ApiResult<RunId>;
    async fn compare(&self, request: CompareRequest) -> ApiResult<ComparisonId>;
    async fn comparison(&self, id: ComparisonId) -> ApiResult<Comparison>;
    /// Newest first.
    async fn comparisons(&self, limit: usize) -> ApiResult<Vec<Comparison>>;
    async fn vote(&self, vote: Vote) -> ApiResult<Tally>;
    async fn tally(&self, adapter: AdapterId) -> ApiResult<Tally>;

    /// Newest first.
    async fn pictures(&self, filter: PictureFilter) -> ApiResult<Vec<Picture>>;
    async fn picture(&self, id: PictureId) -> ApiResult<Picture>;
    async fn delete_picture(&self, id: PictureId) -> ApiResult<()>;

    async fn sample_sets(&self) -> ApiResult<Vec<SampleSet>>;
    /// Copies a sample set into a dataset of the visitor's own.
    async fn use_sample_set(&self, name: String) -> ApiResult<DatasetId>;
    async fn datasets(&self) -> ApiResult<Vec<DatasetInfo>>;
    async fn dataset(&self, id: DatasetId) -> ApiResult<DatasetInfo>;
    async fn set_caption(&self, dataset: DatasetId, item: String, caption: String) -> ApiResult<()>;
    /// Appends the trigger phrase to every caption that lacks it; remembers it for training.
    async fn set_trigger(&self, dataset: DatasetId, trigger: String) -> ApiResult<()>;
    async fn remove_item(&self, dataset: DatasetId, item: String) -> ApiResult<()>;
    async fn delete_dataset(&self, id: DatasetId) -> ApiResult<()>;

    async fn recipes(&self) -> ApiResult<Vec<RecipeInfo>>;
    async fn predict(&self, request: TrainRequest) -> ApiResult<Prediction>;
    async fn train(&self, request: TrainRequest) -> ApiResult<RunId>;
    async fn training(&self, run: RunId) -> ApiResult<TrainingDetail>;

    /// Newest first; `active` keeps queued and running ones only.
    async fn runs(&self, active: bool, limit: usize) -> ApiResult<Vec<Run>>;
    async fn run(&self, id: RunId) -> ApiResult<Run>;
    /// Honoured at the next step; what is done is kept.
    async fn stop(&self, id: RunId) -> ApiResult<()>;
    /// A stopped, failed or interrupted training goes on from its last checkpoint.
    async fn resume(&self, id: RunId) -> ApiResult<()>;

    /// Newest first.
    async fn adapters(&self) -> ApiResult<Vec<AdapterInfo>>;
    async fn adapter(&self, id: AdapterId) -> ApiResult<AdapterInfo>;
    async fn rename_adapter(&self, id: AdapterId, name: String) -> ApiResult<()>;
    async fn delete_adapter(&self, id: AdapterId) -> ApiResult<()>;

    /// What would be published; `None` proposes. Asks nothing of the Hub.
    async fn review_publication(&self, adapter: AdapterId, request: Option<PublishRequest>) -> ApiResult<PublishReview>;
    /// Starts it. Who signed in publishes with that permission. Else a token is used for this once and kept nowhere; `None` takes the
    /// configured one.
    async fn publish(&self, adapter: AdapterId, request: PublishRequest, token: Option<String>) -> ApiResult<()>;
    /// The newest attempt since the server started.
    async fn publish_state(&self, adapter: AdapterId) -> ApiResult<Option<PublishState>>;
    /// Deletes the repository on the Hub.
    async fn unpublish(&self, adapter: AdapterId, repo: String, token: Option<String>) -> ApiResult<()>;
}

/// What this instance is, for forms and the footer.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Studio {
    pub version: String,
    /// Such as `flux-mini`.
    pub model: String,
    /// Such as `2 CPU cores` or `NVIDIA H100`.
    pub device: String,
    /// Sizes the model was made for, best first: (label, width, height).
    pub sizes: Vec<(String, u32, u32)>,
    pub default_steps: u32,
    pub default_guidance: f64,
    /// False until the model is loaded.
    pub ready: bool,
}
