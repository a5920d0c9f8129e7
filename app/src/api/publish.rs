//! Publishing an adapter on the Hub: what is asked for, what it will look like, how far it is, and what was published.

use super::AdapterInfo;
use serde::{Deserialize, Serialize};

/// As it was reviewed. The token travels beside it, never within.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PublishRequest {
    /// `NAME` under the token's own account, or `OWNER/NAME`.
    pub repo: String,
    pub private: bool,
    /// Makes this the next version of an adapter that is there.
    pub replace: bool,
    pub title: String,
    /// Empty: none.
    pub trigger: String,
    /// The base as the studio calls it, or `OWNER/NAME` on the Hub.
    pub base_model: String,
    /// The Hub's identifier.
    pub licence: String,
    /// Whose the training pictures are.
    pub rights: String,
    /// [`PictureChoice::id`]s in the order of the choices.
    pub pictures: Vec<String>,
}

/// Everything that the review page shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PublishReview {
    pub adapter: AdapterInfo,
    pub request: PublishRequest,
    pub choices: Vec<PictureChoice>,
    pub licences: Vec<LicenceChoice>,
    pub card: CardPreview,
    pub published: Vec<Publication>,
    pub state: Option<PublishState>,
    /// With whose token.
    pub publisher: Publisher,
    /// Address of the Hub.
    pub hub: String,
}

/// With whose token an adapter is published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Publisher {
    /// The one that is configured on this machine.
    Machine,
    /// One that is typed in for this once.
    Typed,
    /// The visitor's own, who signed in under this name.
    SignedIn(String),
    /// The visitor has to sign in, again perhaps: why.
    SignIn(String),
}

/// A picture that may go along, with the base model's from the same noise where there is one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PictureChoice {
    pub id: String,
    pub prompt: String,
    pub note: String,
    pub url: String,
    pub base_url: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LicenceChoice {
    pub id: String,
    pub title: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CardPreview {
    /// YAML
    pub front_matter: String,
    /// The card's text as HTML without anything that runs.
    pub html: String,
    pub findings: Vec<CardFinding>,
    /// (path, bytes) of every file.
    pub files: Vec<(String, u64)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CardFinding {
    /// Nothing is published before this is mended.
    pub blocks: bool,
    pub sentence: String,
}

/// An adapter as it is on the Hub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Publication {
    /// `OWNER/NAME`
    pub repo: String,
    pub url: String,
    pub commit: String,
    pub private: bool,
    /// Seconds since 1970.
    pub published_at: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PublishState {
    /// Such as `uploading`.
    pub phase: String,
    pub done: u64,
    pub total: u64,
    pub active: bool,
    /// Why it failed, in a sentence.
    pub error: Option<String>,
    pub published: Option<Publication>,
}
