//! What every handler may reach.

use super::{api::StudioApi, metrics::Metrics, openai::Links, rates::Rates, sign_in::SignIn, style_sets::StyleSets, visitor::Visitor};
use crate::{
    config::{self, ApiKeys, Config, PublicAddress},
    jobs::{Jobs, publish::Publishing},
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
    /// `None`: one person at one machine.
    pub sign_in: Option<Arc<SignIn>>,
    /// `None`: nobody to be kept from anything.
    pub rates: Option<Arc<Rates>>,
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
    /// Nobody but the person at this machine: others come neither by its address, nor through a proxy, nor by signing in.
    pub alone: bool,
    pub public: PublicAddress,
    /// Whose page shows this one in a frame: the Hub's, of a Space.
    pub framed_by: Option<String>,
}

impl AppState {
    pub fn new(jobs: Jobs, config: &Config, address: SocketAddr) -> anyhow::Result<Self> {
        let folder = config.site_folder();
        let leptos = LeptosOptions::builder()
            .output_name("atelier")
            .site_root(folder.to_string_lossy().into_owned())
            .site_pkg_dir("pkg")
            .site_addr(address)
            .build();
        let public = config.public.clone().unwrap_or_else(|| PublicAddress::local(address.port()));
        let framed_by = config.in_space.then(|| config.hub.endpoint.clone());
        let loopback = address.ip().is_loopback();
        let alone = loopback && public.is_local() && config.sign_in.is_none();
        let site = Site { folder, loopback, alone, public, framed_by };
        let style_sets = [site.folder.join("style-sets"), config::style_sets()].into_iter().find(|folder| folder.is_dir());
        let publishing = Publishing::new(jobs.store.clone(), config.hub.clone());
        // Whoever else reaches this machine must not publish under its owner's name.
        let publishing = if site.alone { publishing } else { publishing.without_token() };
        let sign_in = config.sign_in.as_ref().map(|settings| SignIn::new(config, settings, jobs.store.clone(), &site.public));
        let sign_in = sign_in.transpose()?.map(Arc::new);
        let rates = (!site.alone).then(|| Arc::new(Rates::new(site.public.is_encrypted())));
        let (style_sets, api_keys) = (Arc::new(StyleSets::new(style_sets)), Arc::new(config.api_keys.clone()));
        let (links, metrics) = (Arc::default(), Arc::default());
        Ok(Self { jobs, publishing, style_sets, leptos, site, sign_in, rates, api_keys, links, metrics })
    }

    /// The system, bound to who asks.
    pub fn api(&self, visitor: Visitor) -> Arc<dyn Api> {
        Arc::new(StudioApi {
            jobs: self.jobs.clone(),
            publishing: self.publishing.clone(),
            style_sets: self.style_sets.clone(),
            sign_in: self.sign_in.clone(),
            owner: visitor.owner(),
            visitor,
        })
    }
}
