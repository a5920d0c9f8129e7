//! Atelier's pages, rendered on the server and brought to life in the browser. They reach the system through one trait, [`api::Api`].
//!
//! What the server provides as context, for pages and server functions alike: `Arc<dyn api::Api>`, bound to who is asking
//! (`leptos_axum::LeptosRoutes::leptos_routes_with_context` and `handle_server_fns_with_context`). It mounts [`App`] inside [`shell`].
//!
//! Server functions answer at `/api/VERB`, named as in [`calls`]. Every one of them is a public endpoint.
//!
//! Every page works without wasm: forms post and land on a page that shows the run, which refreshes itself. With wasm, the same forms
//! stay in place and the run is followed through `/events/{run}`.
//!
//! Hooks that the browser tests hold on to: forms `#generate-form`, `#compare-form`, `#train-form`, `#upload-form`; buttons "Generate",
//! "Compare", "Start training", "Cancel", "Stop"; `img.result`, `img.preview`, `progress`, `#loss-curve`, `.dataset-item`, `.sample`,
//! `.adapter-card`, `.picture-card`; `body[data-ready]` once the page is alive.

// A page is one deep type until it is erased: pages and their larger parts end in `into_any`, so that nobody downstream meets those types.
#![recursion_limit = "512"]

pub mod api;
pub mod blind;
pub mod calls;
pub mod components;
pub mod format;
pub mod forms;
mod live;
pub mod pages;
mod shell;
#[cfg(feature = "hydrate")]
mod upload;

pub use shell::{App, shell};
