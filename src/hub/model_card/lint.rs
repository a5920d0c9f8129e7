//! What would be wrong with a card once it is on the Hub: every claim of its front matter against the files beside it.

use super::{Base, Licence, front_matter};
use crate::hub::{
    Package, RepoId,
    package::{PICTURES, WEIGHTS},
};
use serde_json::{Map, Value};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The card must not be published like this; otherwise it is only advice.
    pub blocks: bool,
    pub sentence: String,
}

/// Findings, the blocking ones first.
pub fn lint(markdown: &str, package: &Package) -> Vec<Finding> {
    let mut findings = Findings::default();
    match front_matter::split(markdown) {
        None => findings.block("The card does not begin with front matter between two lines of dashes."),
        Some((yaml, text)) => match serde_saphyr::from_str::<Map<String, Value>>(yaml) {
            Err(error) => findings.block(format!("The card's front matter is no YAML: {}.", first_line(&error.to_string()))),
            Ok(keys) => {
                let card = Read { keys, text, package };
                card.check_licence(&mut findings);
                card.check_base(&mut findings);
                card.check_library(&mut findings);
                card.check_trigger(&mut findings);
                card.check_widget(&mut findings);
                card.check_links(&mut findings);
            }
        },
    }
    if package.get(WEIGHTS).is_none() {
        findings.block(format!("{WEIGHTS} is missing."));
    }
    findings.0.sort_by_key(|finding| !finding.blocks);
    findings.0
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn block(&mut self, sentence: impl Into<String>) {
        self.0.push(Finding { blocks: true, sentence: sentence.into() });
    }

    fn advise(&mut self, sentence: impl Into<String>) {
        self.0.push(Finding { blocks: false, sentence: sentence.into() });
    }
}

struct Read<'a> {
    keys: Map<String, Value>,
    text: &'a str,
    package: &'a Package,
}

impl Read<'_> {
    fn text_of(&self, key: &str) -> Option<&str> {
        self.keys.get(key)?.as_str().map(str::trim).filter(|text| !text.is_empty())
    }

    fn check_licence(&self, findings: &mut Findings) {
        let (licence, name) = (self.text_of("license"), self.text_of("license_name"));
        let id = if licence == Some("other") { name } else { licence };
        match id {
            None => findings.block(format!("The card names no licence; choose one of {}.", Licence::ids())),
            Some(_) if licence == Some("other") && self.text_of("license_link").is_none() => {
                findings.block("A licence that the Hub does not list needs a license_link to its text.");
            }
            Some(_) => {}
        }
        let base = self.text_of("base_model").map(Base::of);
        if let Some(required) = base.as_ref().and_then(Base::required_licence)
            && id != Some(required.id)
        {
            let base = base.map(|base| base.name).unwrap_or_default();
            findings.block(format!("Adapters of {base} are under its own licence: choose {}.", required.id));
        }
    }

    fn check_base(&self, findings: &mut Findings) {
        match self.keys.get("base_model") {
            None => {
                findings.advise("The base model is not on the Hub, so the page will not be linked with it; give OWNER/NAME if it is there.")
            }
            Some(_) => match self.text_of("base_model") {
                Some(id) if id.parse::<RepoId>().is_ok() => {}
                _ => findings
                    .block("base_model must be the name of a repository, OWNER/NAME; leave it out for a model that is not on the Hub."),
            },
        }
    }

    fn check_library(&self, findings: &mut Findings) {
        for (key, expected) in [("library_name", "diffusers"), ("pipeline_tag", "text-to-image")] {
            if self.text_of(key) != Some(expected) {
                findings.block(format!("{key} must be {expected}, or the Hub cannot tell how the adapter is used."));
            }
        }
    }

    fn check_trigger(&self, findings: &mut Findings) {
        match self.keys.contains_key("instance_prompt") {
            false => {
                findings.advise("There is no trigger phrase, so nobody is told how to call the style; give one if the captions had one.")
            }
            true if self.text_of("instance_prompt").is_none() => {
                findings.block("instance_prompt is empty; give the trigger phrase, or leave it out.")
            }
            true => {}
        }
    }

    fn check_widget(&self, findings: &mut Findings) {
        let Some(widget) = self.keys.get("widget") else {
            findings.advise("There are no pictures; a page with some is looked at far more often.");
            if self.text.contains("<Gallery />") {
                findings.block("The card has a gallery, but no pictures for it.");
            }
            return;
        };
        let entries = widget.as_array().map(Vec::as_slice).unwrap_or_default();
        if entries.is_empty() {
            findings.block("widget is empty; leave it out where there are no pictures.");
        }
        for (index, entry) in entries.iter().enumerate() {
            let number = index + 1;
            if entry["text"].as_str().is_none_or(|text| text.trim().is_empty()) {
                findings.block(format!("Picture {number} has no prompt."));
            }
            match entry["output"]["url"].as_str() {
                Some(url) if self.package.get(url).is_some() => {}
                Some(url) => findings.block(format!("Picture {number} is {url}, which is not among the files.")),
                None => findings.block(format!("Picture {number} has no file.")),
            }
        }
    }

    /// Pictures that the text shows.
    fn check_links(&self, findings: &mut Findings) {
        for (_, rest) in self.text.match_indices(&format!("]({PICTURES}")).map(|(at, found)| (at, &self.text[at + found.len()..])) {
            let path = format!("{PICTURES}{}", rest.split(')').next().unwrap_or_default());
            if self.package.get(&path).is_none() {
                findings.block(format!("The card shows {path}, which is not among the files."));
            }
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::package::File;

    fn lint_with(front_matter: &str, text: &str) -> Vec<Finding> {
        let package = Package::new(vec![File::new(WEIGHTS, "w"), File::new("images/01.png", "p")]);
        lint(&format!("---\n{front_matter}\n---\n{text}"), &package)
    }

    const GOOD: &str = "license: apache-2.0\nlibrary_name: diffusers\npipeline_tag: text-to-image\nbase_model: a/b\ninstance_prompt: \"in oil\"\n\
        widget:\n  - text: \"x\"\n    output:\n      url: images/01.png";

    #[test]
    fn the_known_ways_to_be_wrong_are_found() {
        assert_eq!(lint_with(GOOD, "<Gallery />"), []);
        let cases = [
            ("base_model: a/b", "base_model: undefined", "base_model"),
            ("base_model: a/b", "base_model:", "base_model"),
            ("base_model: a/b", "base_model: /home/me/model", "base_model"),
            ("instance_prompt: \"in oil\"", "instance_prompt: null", "instance_prompt"),
            ("instance_prompt: \"in oil\"", "instance_prompt:", "instance_prompt"),
            ("images/01.png", "images/02.png", "images/02.png"),
            ("  - text: \"x\"\n    output:\n      url: images/01.png", "", "widget is empty"),
            ("text: \"x\"", "text: \"\"", "no prompt"),
            ("license: apache-2.0", "license: other\nlicense_name: mine", "license_link"),
            ("license: apache-2.0\n", "", "no licence"),
            ("base_model: a/b", "base_model: black-forest-labs/FLUX.1-dev", "flux-1-dev-non-commercial-license"),
            ("diffusers", "transformers", "library_name"),
            ("base_model: a/b", "base_model: [", "YAML"),
        ];
        for (from, to, words) in cases {
            let findings = lint_with(&GOOD.replacen(from, to, 1), "");
            assert!(findings.iter().any(|finding| finding.blocks && finding.sentence.contains(words)), "{to:?}: {findings:?}");
        }
        assert!(lint_with(GOOD, "![x](images/09.png)")[0].sentence.contains("images/09.png"));
        assert!(lint("# no front matter", &Package::default())[0].blocks);
    }

    #[test]
    fn what_may_be_absent_is_only_advice() {
        let bare = "license: mit\nlibrary_name: diffusers\npipeline_tag: text-to-image";
        let findings = lint_with(bare, "");
        assert_eq!((findings.len(), findings.iter().any(|finding| finding.blocks)), (3, false), "{findings:?}");
    }
}
