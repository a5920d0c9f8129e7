//! `atelier publish`: an adapter on the Hugging Face Hub, with a page worth showing; and off it again.

mod folder;

use super::{
    fault::usage,
    output::{self, check_writable, note, say},
    progress,
};
use crate::{
    config::HubSettings,
    hub::{
        self, Destination, Hub, Order, Package, Published, RepoId, Stage, Token,
        model_card::{Base, Card, Facts, Licence, lint},
        package::CARD,
    },
    jobs::publish::weights,
};
use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use folder::Folder;
use indicatif::ProgressBar;
use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
};

const EXAMPLES: &str = "Examples:
  atelier publish --adapter out/mucha --repo ada/mucha --rights \"Drawn by myself\"
  atelier publish --adapter out/mucha --repo mucha --card-only card    # look at it first; nothing is sent
  atelier publish --adapter out/mucha --repo ada/mucha --private --yes --json
  atelier publish --unpublish --repo ada/mucha

The same name again publishes a new version; nothing is sent when nothing changed. The token is taken from --token-file, else from
HF_TOKEN, else from what `hf auth login` stored. HF_ENDPOINT names another hub.";

/// Publish an adapter on the Hugging Face Hub
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Folder of a training, or a .safetensors file
    #[arg(long, value_name = "DIR|FILE", required_unless_present = "unpublish")]
    adapter: Option<PathBuf>,
    /// Where to: USER/NAME, or NAME under your own account
    #[arg(long, value_name = "USER/NAME")]
    repo: Destination,
    /// For nobody else to see
    #[arg(long)]
    private: bool,
    /// File that holds a token with write access
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Write what would be sent into this folder, and send nothing
    #[arg(long, value_name = "DIR", conflicts_with = "unpublish")]
    card_only: Option<PathBuf>,
    /// Licence of the adapter [default: the base model's where it asks for one]
    #[arg(long, visible_alias = "licence", value_name = "ID")]
    license: Option<String>,
    /// Whose the training pictures are, as the card shall say it
    #[arg(long, value_name = "TEXT")]
    rights: Option<String>,
    /// Title of the card [default: the adapter's name]
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Phrase that calls the style [default: that of the training]
    #[arg(long, value_name = "TEXT")]
    trigger: Option<String>,
    /// Base model, as OWNER/NAME where it is on the Hub [default: that of the training]
    #[arg(long, value_name = "NAME")]
    base_model: Option<String>,
    /// Delete the repository on the Hub
    #[arg(long, conflicts_with = "adapter")]
    unpublish: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match &arguments.adapter {
        Some(adapter) => runtime.block_on(publish(arguments, adapter))?,
        None => runtime.block_on(unpublish(arguments))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn publish(arguments: &Arguments, adapter: &Path) -> Result<()> {
    let mut folder = Folder::read(adapter)?;
    let card = card(arguments, &folder)?;
    folder.description["name"] = card.title.clone().into();
    let weights = weights::for_diffusers(folder.name.clone(), folder.weights).await.map_err(|error| usage(error.to_string()))?;
    if let Some(out) = &arguments.card_only {
        return write_card(&card, weights, &folder.description, out);
    }
    let order = Order {
        destination: arguments.repo.clone(),
        private: arguments.private,
        // Who sees the card and agrees, or says --yes, agrees to a new version too.
        replace: true,
        summary: card.title.clone(),
        base_model: card.base.id.as_deref().map(str::parse).transpose()?,
    };
    let hub = client(arguments)?;
    let line = progress::waiting("asking the Hub");
    let package = |repo: &RepoId| {
        let card = Card { repo: repo.clone(), ..card };
        let package = card.package(weights, &folder.description)?;
        line.suspend(|| agree(arguments, &card, &package, &hub))?;
        Ok(package)
    };
    let done = hub::publish(&hub, &order, package, &|stage| tell(&line, &stage)).await;
    line.finish_and_clear();
    report(arguments, &done?)
}

/// All but the account, which the token knows.
fn card(arguments: &Arguments, folder: &Folder) -> Result<Card> {
    let said = |key: &str| folder.description[key].as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
    let base = arguments.base_model.clone().or_else(|| said("base_model"));
    let base = Base::of(&base.ok_or_else(|| usage("it is not known which model this adapter was made for; give --base-model OWNER/NAME"))?);
    let licence = match &arguments.license {
        Some(id) => Licence::of(id).ok_or_else(|| usage(format!("--license {id}: choose one of {}", Licence::ids())))?,
        None => base.usual_licence().ok_or_else(|| usage(format!("give --license, one of {}", Licence::ids())))?,
    };
    Ok(Card {
        title: arguments.title.clone().or_else(|| said("name")).unwrap_or_else(|| folder.name.clone()),
        repo: arguments.repo.of("your-account"),
        trigger: arguments.trigger.clone().or_else(|| said("trigger")).filter(|trigger| !trigger.trim().is_empty()),
        base,
        licence,
        rights: arguments.rights.clone(),
        examples: folder.examples.clone(),
        facts: Facts::of(&folder.description),
    })
}

/// README.md, pictures, weights and adapter.json as they would be sent; what is wrong or advisable on stderr.
fn write_card(card: &Card, weights: Bytes, description: &serde_json::Value, out: &Path) -> Result<()> {
    check_writable(out)?;
    let package = card.draft(weights, description);
    for finding in lint(&card.markdown(), &package) {
        note(format_args!("{}: {}", if finding.blocks { "error" } else { "advice" }, finding.sentence));
    }
    for file in &package.files {
        output::write(&out.join(&file.path), &file.content)?;
    }
    Ok(say(out.join(CARD).display())?)
}

/// Shows what will be sent, and asks.
fn agree(arguments: &Arguments, card: &Card, package: &Package, hub: &Hub) -> hub::Result<()> {
    for finding in lint(&card.markdown(), package) {
        note(format_args!("advice: {}", finding.sentence));
    }
    if arguments.yes {
        return Ok(());
    }
    note(card.markdown());
    for file in &package.files {
        note(format_args!("{:>12} bytes  {}", file.content.len(), file.path));
    }
    let seen = if arguments.private { "for yourself alone" } else { "for everybody to see" };
    note(format_args!(
        "This goes to {}/{}, {seen}; an adapter that is there already becomes its earlier version.",
        hub.endpoint(),
        card.repo
    ));
    confirmed("Publish it?", &card.repo.to_string())
}

/// Only a person at a terminal can be asked.
fn confirmed(question: &str, repo: &str) -> hub::Result<()> {
    if !io::stdin().is_terminal() {
        return Err(hub::Error::refused("Nobody is here to be asked, so nothing was changed; give --yes to go on without a question."));
    }
    note(format_args!("{question} [y/N]"));
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    match read.is_ok() && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
        true => Ok(()),
        false => Err(hub::Error::refused(format!("Nothing was changed: {repo} is as it was."))),
    }
}

fn tell(line: &ProgressBar, stage: &Stage) {
    line.set_message(match stage {
        Stage::Checking => "asking the Hub".to_owned(),
        Stage::Uploading { done, total } => format!("sending files: {done} of {total} bytes"),
        Stage::Committing => "writing the commit".to_owned(),
        Stage::Comparing { done, total } => format!("downloading and comparing: {done} of {total} files"),
    });
}

fn report(arguments: &Arguments, done: &Published) -> Result<()> {
    if arguments.json {
        let Published { repo, url, commit, private, created, unchanged } = done;
        return output::say_json(&serde_json::json!({
            "repo": repo.to_string(), "url": url, "commit": commit, "private": private, "created": created, "unchanged": unchanged,
        }));
    }
    let what = match (done.unchanged, done.created) {
        (true, _) => "unchanged",
        (false, true) => "published",
        (false, false) => "new version",
    };
    say(format_args!("{what}  {}", done.url))?;
    Ok(say(format_args!("commit {}, downloaded again and the same to the last bit", done.commit))?)
}

async fn unpublish(arguments: &Arguments) -> Result<()> {
    let hub = client(arguments)?;
    if !arguments.yes {
        let Destination { owner, name } = &arguments.repo;
        let repo = owner.as_ref().map_or_else(|| name.clone(), |owner| format!("{owner}/{name}"));
        confirmed(&format!("Delete {repo} at {} with every version of it?", hub.endpoint()), &repo)?;
    }
    let repo = hub::unpublish(&hub, &arguments.repo).await?;
    if arguments.json {
        output::say_json(&serde_json::json!({ "repo": repo.to_string(), "unpublished": true }))
    } else {
        Ok(say(format_args!("unpublished  {repo}"))?)
    }
}

fn client(arguments: &Arguments) -> Result<Hub> {
    let settings = HubSettings::from_environment();
    let token = match &arguments.token_file {
        Some(file) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("--token-file {} cannot be read", file.display()))?;
            Some(Token::new(&text)?)
        }
        None => settings.token,
    };
    let ask = || {
        usage(format!(
            "a token with write access is needed: --token-file FILE, or HF_TOKEN; make one at {}/settings/tokens",
            settings.endpoint
        ))
    };
    Ok(Hub::new(&settings.endpoint, token.ok_or_else(ask)?)?)
}
