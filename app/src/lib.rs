//! Atelier's pages, rendered on the server and brought to life in the browser. They reach the system through one trait, [`api::Api`].

pub mod api;
