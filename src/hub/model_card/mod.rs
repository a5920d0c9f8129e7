//! The page of a published adapter: what it says ([`Card`]), its front matter, its text, and what would be wrong with it ([`lint`]).

pub mod base;
pub mod facts;
mod front_matter;
pub mod html;
pub mod licence;
pub mod lint;
mod text;

pub use base::Base;
pub use facts::Facts;
pub use licence::Licence;
pub use lint::{Finding, lint};

use super::{
    Error, Package, RepoId, Result,
    package::{CARD, DESCRIPTION, File, PICTURES, WEIGHTS},
};
use bytes::Bytes;

/// Everything that a card says.
#[derive(Clone, Debug)]
pub struct Card {
    pub title: String,
    pub repo: RepoId,
    /// Words that call the style.
    pub trigger: Option<String>,
    pub base: Base,
    pub licence: Licence,
    /// Whose the training pictures are, in the publisher's words.
    pub rights: Option<String>,
    pub examples: Vec<Example>,
    pub facts: Facts,
}

/// One picture of the gallery: by the adapter, and by the base model from the same noise where there is one.
#[derive(Clone, Debug)]
pub struct Example {
    pub prompt: String,
    /// PNG
    pub adapter: Bytes,
    /// PNG
    pub base: Option<Bytes>,
    /// How it was drawn, such as `seed 7, strength 0.8`.
    pub note: String,
}

impl Card {
    /// README.md
    pub fn markdown(&self) -> String {
        format!("{}\n{}", front_matter::write(self), text::write(self))
    }

    /// Weights, description, pictures and the card, ready to be sent; refused when the card would not be right.
    pub fn package(&self, weights: Bytes, description: &serde_json::Value) -> Result<Package> {
        let package = self.draft(weights, description);
        let findings = lint(&self.markdown(), &package);
        match findings.iter().find(|finding| finding.blocks) {
            Some(finding) => Err(Error::refused(finding.sentence.clone())),
            None => Ok(package),
        }
    }

    /// The same, whatever is wrong with it: for looking at.
    pub fn draft(&self, weights: Bytes, description: &serde_json::Value) -> Package {
        let mut files = vec![
            File::new(WEIGHTS, weights),
            File::new(DESCRIPTION, serde_json::to_vec_pretty(description).unwrap_or_default()),
            File::new(CARD, self.markdown()),
        ];
        for (index, example) in self.examples.iter().enumerate() {
            files.push(File::new(picture(index), example.adapter.clone()));
            files.extend(example.base.clone().map(|base| File::new(base_picture(index), base)));
        }
        Package::new(files)
    }
}

/// Path of the picture that the adapter made.
fn picture(index: usize) -> String {
    format!("{PICTURES}{:02}.png", index + 1)
}

/// Path of the base model's.
fn base_picture(index: usize) -> String {
    format!("{PICTURES}{:02}-base.png", index + 1)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub fn card() -> Card {
        let description = json!({
            "steps": 200, "final_loss": 0.41256, "trigger": "art nouveau panel", "dataset_name": "Mucha",
            "recipe": {"rank": 16, "alpha": 16.0, "learning_rate": 1e-3, "resolution": "192x288", "sample_prompts": ["no fact"]},
            "dataset": {"pictures": ["a", "b", "c"]},
        });
        Card {
            title: "Mucha | panels".into(),
            repo: "ada/mucha".parse().unwrap(),
            trigger: Some("art nouveau panel".into()),
            base: Base::of("FLUX.1-dev"),
            licence: Licence::of("flux-1-dev-non-commercial-license").unwrap(),
            rights: Some("Drawn by myself.".into()),
            examples: vec![
                Example {
                    prompt: "a \"cat\": sat\non [a](javascript:alert(1)) <b>chair</b> | x".into(),
                    adapter: Bytes::from_static(b"1"),
                    base: Some(Bytes::from_static(b"2")),
                    note: "seed 7".into(),
                },
                Example { prompt: "- null".into(), adapter: Bytes::from_static(b"3"), base: None, note: String::new() },
            ],
            facts: Facts::of(&description),
        }
    }

    #[test]
    fn a_whole_card_has_no_findings_and_its_pictures_travel_with_it() {
        let card = card();
        let package = card.package(Bytes::from_static(b"weights"), &json!({"name": "Mucha"})).unwrap();
        let paths: Vec<_> = package.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(
            paths,
            ["README.md", "adapter.json", "images/01-base.png", "images/01.png", "images/02.png", "pytorch_lora_weights.safetensors"]
        );
        assert_eq!(lint(&card.markdown(), &package), []);
    }

    #[test]
    fn what_a_card_says() {
        insta::assert_snapshot!(card().markdown());
    }

    #[test]
    fn a_card_that_would_be_wrong_is_not_packed() {
        let wrong = Card { licence: Licence::of("apache-2.0").unwrap(), ..card() };
        let error = wrong.package(Bytes::new(), &json!({})).unwrap_err();
        assert!(matches!(&error, Error::Refused(sentence) if sentence.contains("flux-1-dev-non-commercial-license")), "{error}");
    }
}
