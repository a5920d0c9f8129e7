//! `atelier token`: keys to the HTTP API of a studio on this machine, made and revoked beside its server.

use super::{
    fault::usage,
    output::{self, say},
};
use crate::{
    config::{Config, Storage},
    store::{self, tokens::ApiTokens},
};
use anyhow::Result;
use app::api::limits::MAX_NAME_CHARS;
use clap::{Args, Subcommand};
use std::{env, ffi::OsString, path::PathBuf, process::ExitCode};

const EXAMPLES: &str = "Examples:
  atelier token create --name ci
  curl --header \"Authorization: Bearer $ATELIER_TOKEN\" http://localhost:7860/api/v1/studio
  atelier token revoke --name ci

A token is told once, when it is made; what is kept of it cannot be read back. A running server knows of it at once.";

/// Make, list and revoke tokens of the HTTP API
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Data folder of the studio, as `atelier serve` has it
    #[arg(long, global = true, default_value = Config::DATA_DIR, value_name = "DIR[:DIR]", env = "ATELIER_DATA_DIR", hide_env = true)]
    data_dir: OsString,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a token and print it
    Create {
        /// What to call it, such as the script that uses it
        #[arg(long)]
        name: String,
    },
    /// Names, and when each was last used
    List {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a token back
    Revoke {
        #[arg(long)]
        name: String,
    },
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(act(arguments))?;
    Ok(ExitCode::SUCCESS)
}

async fn act(arguments: &Arguments) -> Result<()> {
    let candidates: Vec<PathBuf> = env::split_paths(&arguments.data_dir).collect();
    let tokens = ApiTokens::open(&Storage::choose(&candidates, None).data).await.map_err(mendable)?;
    match &arguments.what {
        What::Create { name } => Ok(say(tokens.create(checked(name)?).await.map_err(mendable)?)?),
        What::Revoke { name } => tokens.revoke(name.trim()).await.map_err(mendable),
        What::List { json: true } => output::say_json(&serde_json::to_value(tokens.list().await?)?),
        What::List { json: false } => {
            for token in tokens.list().await? {
                say(format_args!("{}  {}", token.name, used(token.used_at)))?;
            }
            Ok(())
        }
    }
}

fn checked(name: &str) -> Result<&str> {
    match name.trim() {
        name if !name.is_empty() && name.chars().count() <= MAX_NAME_CHARS && !name.contains(char::is_control) => Ok(name),
        _ => Err(usage(format!("--name: give a name of up to {MAX_NAME_CHARS} characters, such as ci"))),
    }
}

fn used(at: Option<i64>) -> String {
    match at.map(|at| (store::now() - at) / 60) {
        None => "never used".to_owned(),
        Some(0) => "used a moment ago".to_owned(),
        Some(minutes @ 1..120) => format!("used {minutes} minutes ago"),
        Some(minutes @ 120..2880) => format!("used {} hours ago", minutes / 60),
        Some(minutes) => format!("used {} days ago", minutes / 1440),
    }
}

/// A name that is taken or unknown is for the person who typed it to mend.
fn mendable(error: store::Error) -> anyhow::Error {
    match error {
        store::Error::Conflict(_) | store::Error::NotFound { .. } => usage(error.to_string()),
        _ => error.into(),
    }
}
