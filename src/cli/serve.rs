//! `atelier serve`: the web app.

use super::{arguments::ModelArguments, fault::usage};
use crate::{
    config::{Config, HubSettings},
    server::{self, CannotStart},
};
use anyhow::Result;
use clap::Args;
use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::ExitCode,
};

const EXAMPLES: &str = "Examples:
  atelier serve
  atelier serve --port 8080 --data-dir ~/atelier
  atelier serve --host 0.0.0.0    # anyone who reaches this machine may use it: nobody signs in

Ctrl-C ends it; a training that runs goes on at the next start.";

/// Serve the web app
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Address to listen at
    #[arg(long, default_value_t = Config::HOST, value_parser = host, value_name = "ADDRESS", env = "ATELIER_HOST", hide_env = true)]
    host: IpAddr,
    #[arg(long, default_value_t = Config::PORT, value_name = "PORT", env = "ATELIER_PORT", hide_env = true)]
    port: u16,
    /// Folder of database, pictures, style sets, adapters and trainings
    #[arg(long, default_value = Config::DATA_DIR, value_name = "DIR", env = "ATELIER_DATA_DIR", hide_env = true)]
    data_dir: PathBuf,
    #[command(flatten)]
    model: ModelArguments,
    /// Folder of the web app's files [default: target/site]
    #[arg(long, value_name = "DIR", env = "ATELIER_SITE", hide_env = true)]
    site: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let config = Config {
        host: arguments.host,
        port: arguments.port,
        data_dir: arguments.data_dir.clone(),
        model: arguments.model.path(),
        chosen: arguments.model.chosen(),
        device: arguments.model.device.choice,
        precision: arguments.model.device.precision(),
        site: arguments.site.clone(),
        hub: HubSettings::from_environment(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(server::serve(config)).map_err(|error| match error.downcast::<CannotStart>() {
        Ok(CannotStart(sentence)) => usage(sentence),
        Err(error) => error,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn host(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        _ => text.parse().map_err(|_| "write an address such as 127.0.0.1 or 0.0.0.0".into()),
    }
}
