//! What the pages ask the server to do: server functions, one file for each kind of thing, named with verbs.

pub mod studio;

#[cfg(feature = "ssr")]
mod context;
