//! What every handler may reach.

use super::{api::StudioApi, metrics::Metrics, openai::Links, style_sets::StyleSets};
use crate::{
    config::{self, ApiKeys, Config},
    jobs::{Jobs, publish::Publishing},
    store::Owner,
};
use app::api::Api;
use axum::extract::FromRef;
use leptos::prelude::LeptosOptions;
use std::{net::SocketAddr, path::PathBuf, sync::Arc};

#[derive(Clone, FromRef)]
pub struct AppState {
    pub jobs: Jobs,
    pub publishing: Publishing,
    pub style_sets: Arc<StyleSets>,
    pub leptos: LeptosOptions,
    pub site: Site,
    pub api_keys: Arc<ApiKeys>,
    pub links: Arc<Links>,
    pub metrics: Arc<Metrics>,
}

/// Where static files lie, and who may ask.
#[derive(Clone)]
pub struct Site {
    pub folder: PathBuf,
    /// Only this machine is served: other names for it are a trick.
    pub loopback: bool,
}

impl AppState {
    pub fn new(jobs: Jobs, config: &Config, address: SocketAddr) -> Self {
        let folder = config.site_folder();
        let leptos = LeptosOptions::builder()
            .output_name("atelier")
            .site_root(folder.to_string_lossy().into_owned())
            .site_pkg_dir("pkg")
            .site_addr(address)
            .build();
        let site = Site { folder, loopback: address.ip().is_loopback() };
        let style_sets = [site.folder.join("style-sets"), config::style_sets()].into_iter().find(|folder| folder.is_dir());
        let publishing = Publishing::new(jobs.store.clone(), config.hub.clone());
        // Whoever else reaches this machine must not publish under its owner's name.
        let publishing = if site.loopback { publishing } else { publishing.without_token() };
        let (style_sets, api_keys) = (Arc::new(StyleSets::new(style_sets)), Arc::new(config.api_keys.clone()));
        Self { jobs, publishing, style_sets, leptos, site, api_keys, links: Arc::default(), metrics: Arc::default() }
    }

    /// The system, bound to who asks. One person at one machine so far.
    pub fn api(&self) -> Arc<dyn Api> {
        self.api_of(Owner::local())
    }

    /// The system, bound to whom the caller was found to be.
    pub fn api_of(&self, owner: Owner) -> Arc<dyn Api> {
        Arc::new(StudioApi { jobs: self.jobs.clone(), publishing: self.publishing.clone(), style_sets: self.style_sets.clone(), owner })
    }
}
