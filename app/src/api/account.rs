//! Who the visitor is.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Account {
    /// One person at one machine: nobody signs in.
    Local,
    /// Not signed in.
    Stranger {
        /// The page is shown in a frame of another site's, where signing in needs a tab of its own.
        framed: bool,
    },
    Member(Member),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Member {
    pub username: String,
    pub name: String,
    /// It is this person's studio.
    pub host: bool,
    /// Lists hold everybody's work.
    pub everyone: bool,
    /// Permissions that were asked for and not given.
    pub missing: Vec<String>,
    /// As with a stranger.
    pub framed: bool,
}
