//! What the pages ask the server to do: server functions, one file for each kind of thing, named with verbs.
//! Each answers at `/api/VERB` and is a public endpoint, checked by the system behind [`crate::api::Api`].

pub mod account;
pub mod adapters;
pub mod comparisons;
pub mod datasets;
pub mod pictures;
pub mod publishing;
pub mod runs;
pub mod studio;
pub mod training;

#[cfg(feature = "ssr")]
pub(crate) mod context;
