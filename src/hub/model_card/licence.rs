//! Licences that an adapter may be published under, as the Hub writes them.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Licence {
    /// The Hub's identifier; for one that the Hub does not list, the name that stands beside `license: other`.
    pub id: &'static str,
    pub title: &'static str,
    /// Where its text is, for one that the Hub does not list.
    pub link: Option<&'static str>,
}

pub const LICENCES: [Licence; 7] = [
    Licence { id: "apache-2.0", title: "Apache 2.0", link: None },
    Licence { id: "mit", title: "MIT", link: None },
    Licence { id: "cc0-1.0", title: "Creative Commons Zero 1.0 (public domain)", link: None },
    Licence { id: "cc-by-4.0", title: "Creative Commons Attribution 4.0", link: None },
    Licence { id: "cc-by-sa-4.0", title: "Creative Commons Attribution Share Alike 4.0", link: None },
    Licence { id: "cc-by-nc-4.0", title: "Creative Commons Attribution Non Commercial 4.0", link: None },
    Licence {
        id: "flux-1-dev-non-commercial-license",
        title: "FLUX.1 [dev] Non-Commercial",
        link: Some("https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md"),
    },
];

impl Licence {
    pub fn of(id: &str) -> Option<Self> {
        LICENCES.into_iter().find(|licence| licence.id == id)
    }

    /// All identifiers, for a sentence.
    pub fn ids() -> String {
        LICENCES.map(|licence| licence.id).join(", ")
    }
}
