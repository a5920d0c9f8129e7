//! A publication as it stands on the review page: what was asked for, or is proposed, and the card that comes of it.

use super::{
    super::error::{Error, Result},
    pictures::{self, Choice},
};
use crate::{
    hub::{
        Destination, Order, RepoId,
        model_card::{Base, Card, Example, Facts, Finding, Licence, html, licence::LICENCES, lint},
    },
    store::{BlobKey, Owner, Store},
};
use app::api::{AdapterInfo, CardFinding, CardPreview, LicenceChoice, Publication, PublishRequest, Tally, limits};
use bytes::Bytes;
use serde_json::Value;

/// Pairs that are proposed: a card's gallery shows so many at a glance.
const PROPOSED: usize = 4;

pub struct Draft {
    pub adapter: AdapterInfo,
    pub request: PublishRequest,
    pub choices: Vec<Choice>,
    /// adapter.json
    pub description: Value,
    pub weights: BlobKey,
    examples: Vec<Example>,
    tally: Tally,
}

impl Draft {
    /// `before` is the newest publication, whose place a new version would take.
    pub async fn read(
        store: &Store,
        owner: &Owner,
        adapter: AdapterInfo,
        request: Option<PublishRequest>,
        before: Option<&Publication>,
    ) -> Result<Self> {
        let file = store.adapter_file(owner, &adapter.id).await?;
        let recipe = store.adapter_recipe(owner, &adapter.id).await?;
        let mut description: Value = serde_json::from_str(&recipe).map_err(crate::store::Error::from)?;
        let choices = pictures::choices(store, owner, &adapter).await?;
        let request = request.unwrap_or_else(|| proposal(&adapter, &choices, before));
        // The name that a person gave last, whatever the training was called.
        description["name"] = request.title.trim().into();
        let mut examples = Vec::new();
        for choice in choices.iter().filter(|choice| request.pictures.contains(&choice.shown.id)).take(limits::MAX_CARD_PICTURES) {
            let (picture, base) = choice.bytes(store, owner).await?;
            let (prompt, note) = (choice.shown.prompt.clone(), choice.shown.note.clone());
            examples.push(Example { prompt, adapter: picture, base, note });
        }
        let tally = store.tally(owner, &adapter.id).await?;
        let weights = BlobKey::adapter(&adapter.id, file.version);
        Ok(Self { adapter, request, choices, description, weights, examples, tally })
    }

    /// What is wrong with the request itself, before any card is made of it.
    fn findings(&self) -> Vec<Finding> {
        let request = &self.request;
        let too_long = |what: &str, text: &str, most: usize| {
            (text.chars().count() > most).then(|| format!("{what} is too long; at most {most} characters are allowed."))
        };
        let destination = request.repo.parse::<Destination>().err().map(|error| error.to_string());
        let title = request.title.trim().is_empty().then(|| "A title is needed; a word or two will do.".to_owned());
        let licence = Licence::of(&request.licence).is_none().then(|| format!("Choose a licence: one of {}.", Licence::ids()));
        let rights = request.rights.trim().is_empty().then(|| "Say whose the training pictures are, and that you may use them.".to_owned());
        let pictures = (request.pictures.len() > limits::MAX_CARD_PICTURES)
            .then(|| format!("{} pictures are too many for a card; choose up to {}.", request.pictures.len(), limits::MAX_CARD_PICTURES));
        let lengths = [
            too_long("The title", &request.title, limits::MAX_NAME_CHARS),
            too_long("The trigger phrase", &request.trigger, limits::MAX_NAME_CHARS),
            too_long("The statement of rights", &request.rights, limits::MAX_RIGHTS_CHARS),
        ];
        let all = [destination, title, licence, rights, pictures].into_iter().chain(lengths).flatten();
        all.map(|sentence| Finding { blocks: true, sentence }).collect()
    }

    /// Refuses what must not be published.
    pub fn check(&self) -> Result<()> {
        match self.findings().into_iter().chain(self.lint()).find(|finding| finding.blocks) {
            Some(finding) => Err(Error::Refused(finding.sentence)),
            None => Ok(()),
        }
    }

    pub fn order(&self) -> Result<Order> {
        let (title, steps) = (self.request.title.trim(), self.adapter.steps);
        let summary = if steps > 0 { format!("{title}: {steps} steps") } else { title.to_owned() };
        let PublishRequest { private, replace, .. } = self.request;
        let base_model = Base::of(&self.request.base_model).id.map(|id| id.parse()).transpose()?;
        Ok(Order { destination: self.request.repo.parse()?, private, replace, summary, base_model })
    }

    pub fn card(&self, repo: RepoId) -> Card {
        let base = Base::of(&self.request.base_model);
        Card {
            title: self.request.title.trim().to_owned(),
            repo,
            trigger: Some(self.request.trigger.trim().to_owned()).filter(|trigger| !trigger.is_empty()),
            // A request without one is refused; a preview needs some.
            licence: Licence::of(&self.request.licence).or_else(|| base.usual_licence()).unwrap_or(LICENCES[0]),
            base,
            rights: Some(self.request.rights.trim().to_owned()).filter(|rights| !rights.is_empty()),
            examples: self.examples.clone(),
            facts: self.facts(),
        }
    }

    fn facts(&self) -> Facts {
        let facts = Facts::of(&self.description);
        let Tally { wins, losses, ties, win_rate: Some(rate), low: Some(low), high: Some(high) } = self.tally else { return facts };
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        let value = format!("{} of {} (95 %: {} to {})", percent(rate), wins + losses + ties, percent(low), percent(high));
        facts.with_metric("Preferred to the base in blind pairs", value)
    }

    /// The account is the token's, which nobody has asked yet.
    fn placeholder(&self) -> RepoId {
        let destination = self.request.repo.parse().unwrap_or(Destination { owner: None, name: "adapter".into() });
        destination.of("your-account")
    }

    fn lint(&self) -> Vec<Finding> {
        let card = self.card(self.placeholder());
        lint(&card.markdown(), &card.draft(Bytes::new(), &self.description))
    }

    pub fn preview(&self) -> CardPreview {
        let card = self.card(self.placeholder());
        let (markdown, package) = (card.markdown(), card.draft(Bytes::new(), &self.description));
        let chosen: Vec<_> = self.choices.iter().filter(|choice| self.request.pictures.contains(&choice.shown.id)).collect();
        let findings = self.findings().into_iter().chain(lint(&markdown, &package));
        let size = |file: &crate::hub::package::File| match file.content.len() as u64 {
            0 => self.adapter.bytes,
            bytes => bytes,
        };
        CardPreview {
            front_matter: markdown.strip_prefix("---\n").and_then(|text| text.split("\n---\n").next()).unwrap_or_default().to_owned(),
            html: html::render(&markdown, |path| address(&chosen, path)),
            findings: findings.map(|Finding { blocks, sentence }| CardFinding { blocks, sentence }).collect(),
            files: package.files.iter().map(|file| (file.path.clone(), size(file))).collect(),
        }
    }
}

pub fn licences() -> Vec<LicenceChoice> {
    LICENCES.iter().map(|licence| LicenceChoice { id: licence.id.into(), title: licence.title.into() }).collect()
}

/// Where a picture of the package can be seen here: `images/02-base.png` is the second choice's.
fn address(chosen: &[&Choice], path: &str) -> Option<String> {
    let name = path.strip_prefix(crate::hub::package::PICTURES)?.strip_suffix(".png")?;
    let (number, base) = name.strip_suffix("-base").map_or((name, false), |number| (number, true));
    let shown = &chosen.get(number.parse::<usize>().ok()?.checked_sub(1)?)?.shown;
    if base { shown.base_url.clone() } else { Some(shown.url.clone()) }
}

fn proposal(adapter: &AdapterInfo, choices: &[Choice], before: Option<&Publication>) -> PublishRequest {
    PublishRequest {
        repo: before.map_or_else(|| slug(&adapter.name), |publication| publication.repo.clone()),
        private: before.is_some_and(|publication| publication.private),
        replace: before.is_some(),
        title: adapter.name.clone(),
        trigger: adapter.trigger.clone().unwrap_or_default(),
        base_model: Base::of(&adapter.base_model).id.unwrap_or_else(|| adapter.base_model.clone()),
        licence: Base::of(&adapter.base_model).usual_licence().map(|licence| licence.id.to_owned()).unwrap_or_default(),
        rights: String::new(),
        pictures: choices.iter().take(PROPOSED).map(|choice| choice.shown.id.clone()).collect(),
    }
}

/// A name as a repository's.
fn slug(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' }).collect();
    let words = plain.split_whitespace().collect::<Vec<_>>().join("-");
    if words.is_empty() { "adapter".to_owned() } else { words.chars().take(80).collect::<String>().trim_end_matches('-').to_owned() }
}
