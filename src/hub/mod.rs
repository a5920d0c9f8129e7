//! Publishing on the Hugging Face Hub: a client of its HTTP API, the model card, and the one commit that brings an adapter there.
//!
//! [`model_card`] → [`package`] → [`publish`] → ([`client`]: [`identity`], [`repository`], [`upload`], [`commit`], [`download`])
//!
//! Whose account it is comes from a token, or from [`oauth`], by which people sign in.
//!
//! Large files travel by Git LFS (`basic` and `multipart`), which the Hub takes from every client and self-hosted hubs speak too. A hub that
//! insists on Xet is told apart and refused in words. Nothing here reads the environment or falls back to another token.

pub mod address;
pub mod client;
pub mod commit;
pub mod download;
pub mod error;
pub mod identity;
pub mod model_card;
pub mod oauth;
pub mod package;
pub mod publish;
pub mod repository;
pub mod token;
pub mod upload;

pub use client::Hub;
pub use error::{Error, Result};
pub use package::Package;
pub use publish::{Order, Published, Stage, publish, unpublish};
pub use repository::{Destination, RepoId};
pub use token::Token;

/// The branch that everybody looks at.
pub const MAIN: &str = "main";
