//! The form of the review page. The token is no part of it: what is in a form may come to stand in an address.

use super::write_query;
use crate::api::{AdapterId, PublishRequest};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PublishForm {
    /// Any text once the form was filled in: then nothing ticked means no pictures.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reviewed: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub repo: String,
    /// `public` or `private`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub visibility: String,
    /// Any text when it is ticked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub replace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trigger: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub base_model: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub licence: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rights: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pictures: Vec<String>,
}

impl PublishForm {
    /// The address of the review page, filled in.
    pub fn href(&self, adapter: &AdapterId) -> String {
        format!("{}?{}", page(adapter), write_query(self))
    }

    /// `None` before it was filled in: then the server proposes.
    pub fn request(self) -> Option<PublishRequest> {
        (!self.reviewed.is_empty()).then(|| PublishRequest {
            repo: self.repo.trim().to_owned(),
            private: self.visibility == "private",
            replace: !self.replace.is_empty(),
            title: self.title.trim().to_owned(),
            trigger: self.trigger.trim().to_owned(),
            base_model: self.base_model.trim().to_owned(),
            licence: self.licence,
            rights: self.rights.trim().to_owned(),
            pictures: self.pictures,
        })
    }
}

/// The review page of an adapter.
pub fn page(adapter: &AdapterId) -> String {
    format!("/adapters/{adapter}/publish")
}

#[cfg(test)]
mod tests {
    use super::super::read_query;
    use super::*;

    #[test]
    fn a_form_survives_the_address_and_an_empty_one_asks_for_a_proposal() {
        let form = PublishForm {
            reviewed: "1".into(),
            repo: "ada/mucha".into(),
            visibility: "private".into(),
            rights: "Mine & yours = ours".into(),
            pictures: vec!["picture-1".into(), "sample-a.png".into()],
            ..PublishForm::default()
        };
        let id = AdapterId("a1".into());
        let query = form.href(&id).split_once('?').unwrap().1.to_owned();
        assert_eq!(read_query::<PublishForm>(&query), form);
        assert!(form.request().unwrap().private);
        assert_eq!(PublishForm::default().request(), None);
    }
}
