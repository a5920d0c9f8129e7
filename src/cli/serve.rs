//! `atelier serve`: the web app.

use super::{arguments::ModelArguments, fault::usage};
use crate::{
    config::{self, ApiKeys, BackupSettings, Config, HubSettings, PublicAddress, SignInSettings, Storage, UserLimits},
    server::{self, CannotStart},
};
use anyhow::Result;
use clap::Args;
use std::{
    env,
    ffi::OsString,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

const EXAMPLES: &str = "Examples:
  atelier serve
  atelier serve --port 8080 --data-dir ~/atelier
  atelier serve --host 0.0.0.0    # anyone who reaches this machine may use it: nobody signs in
  atelier serve --data-dir /data:data --backup-dir /bucket
  OAUTH_CLIENT_ID=… OAUTH_CLIENT_SECRET=… atelier serve --host 0.0.0.0 --public-url https://atelier.example

With OAUTH_CLIENT_ID people sign in with Hugging Face, or with the provider at OPENID_PROVIDER_URL, and each sees their own work; a Space
with `hf_oauth: true` and `hf_oauth_scopes: [contribute-repos]` sets all of it. The app's redirect address is
https://…/sign-in/callback. OAUTH_SCOPES are the permissions asked for, ATELIER_OWNERS the usernames that see everybody's work
[default: who made the Space], ATELIER_SECRET what cookies are encrypted with [default: made of OAUTH_CLIENT_SECRET].

Scripts find the HTTP API at /api. Without a token only a server on this machine's own address answers them; `atelier token create`
makes one, or ATELIER_API_TOKENS brings some along.

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
    /// Folder of database, pictures, style sets, adapters and trainings; of several the first that can be written
    #[arg(long, default_value = Config::DATA_DIR, value_name = "DIR[:DIR]", env = "ATELIER_DATA_DIR", hide_env = true)]
    data_dir: OsString,
    /// Folder, such as a mounted bucket, that all of it is copied to; where the data folder is empty it is filled from there
    #[arg(long, value_name = "DIR", env = "ATELIER_BACKUP_DIR", hide_env = true)]
    backup_dir: Option<PathBuf>,
    /// Seconds between two copies; one more is made at the end
    #[arg(long, default_value_t = 120, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), env = "ATELIER_BACKUP_EVERY", hide_env = true)]
    backup_every: u64,
    #[command(flatten)]
    model: ModelArguments,
    /// Folder of the web app's files [default: target/site]
    #[arg(long, value_name = "DIR", env = "ATELIER_SITE", hide_env = true)]
    site: Option<PathBuf>,
    /// How browsers reach it [default: the Space's address, else http://localhost and the port]
    #[arg(long, value_name = "URL", env = "ATELIER_PUBLIC_URL", hide_env = true)]
    public_url: Option<PublicAddress>,
    /// Jobs of one user that may wait or run at a time, where people sign in
    #[arg(long, default_value_t = UserLimits::default().runs, value_name = "N", env = "ATELIER_USER_JOBS", hide_env = true)]
    user_jobs: u32,
    /// Steps that a user's training may take, with those of its samples and of each picture in a batch
    #[arg(long, default_value_t = UserLimits::default().train_steps, value_name = "N", env = "ATELIER_USER_STEPS", hide_env = true)]
    user_steps: u32,
    /// GiB of pictures, style sets, adapters and trainings that a user may keep
    #[arg(long, default_value_t = UserLimits::default().storage >> 30, value_name = "GIB", env = "ATELIER_USER_STORAGE", hide_env = true)]
    user_storage: u64,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let candidates: Vec<PathBuf> = env::split_paths(&arguments.data_dir).collect();
    let Storage { data, backup } = Storage::choose(&candidates, arguments.backup_dir.clone());
    let every = Duration::from_secs(arguments.backup_every);
    let config = Config {
        host: arguments.host,
        port: arguments.port,
        data_dir: data,
        model: arguments.model.path(),
        chosen: arguments.model.chosen(),
        device: arguments.model.device.choice,
        precision: arguments.model.device.precision(),
        site: arguments.site.clone(),
        hub: HubSettings::from_environment(),
        backup: backup.map(|folder| BackupSettings { folder, every }),
        api_keys: ApiKeys::from_environment().map_err(usage)?,
        sign_in: SignInSettings::from_environment().map_err(usage)?,
        public: arguments.public_url.clone().or_else(PublicAddress::from_environment),
        in_space: config::in_space(),
        limits: UserLimits {
            runs: arguments.user_jobs,
            train_steps: arguments.user_steps,
            storage: arguments.user_storage.saturating_mul(1 << 30),
        },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(server::serve(config));
    // A restore under way is left: the next start begins it again.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served.map_err(|error| match error.downcast::<CannotStart>() {
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
