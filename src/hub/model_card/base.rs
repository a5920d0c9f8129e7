//! The model that an adapter sits on: its name on the Hub, and what its licence asks of adapters.

use super::Licence;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// As the studio calls it, such as `flux-mini`.
    pub name: String,
    /// `OWNER/NAME`; `None` for a model that is not on the Hub.
    pub id: Option<String>,
}

/// Folder or repository name, in lower case → its place on the Hub and the licence that its adapters must have, if one alone.
const KNOWN: [(&str, &str, Option<&str>); 5] = [
    ("flux.1-dev", "black-forest-labs/FLUX.1-dev", Some(DEV)),
    ("flux.1-krea-dev", "black-forest-labs/FLUX.1-Krea-dev", Some(DEV)),
    ("flux.1-kontext-dev", "black-forest-labs/FLUX.1-Kontext-dev", Some(DEV)),
    ("flux.1-fill-dev", "black-forest-labs/FLUX.1-Fill-dev", Some(DEV)),
    ("flux.1-schnell", "black-forest-labs/FLUX.1-schnell", None),
];
const DEV: &str = "flux-1-dev-non-commercial-license";
/// Comes with Atelier, under Atelier's licence.
const EMBEDDED: &str = "flux-mini";

impl Base {
    /// From a folder's name, or from `OWNER/NAME`.
    pub fn of(name: &str) -> Self {
        let name = name.trim();
        let id = known(name).map(|(_, id, _)| (*id).to_owned()).or_else(|| name.contains('/').then(|| name.to_owned()));
        let short = name.rsplit('/').next().unwrap_or(name).to_owned();
        Self { name: short, id }
    }

    /// The licence that adapters of this base must carry: those of FLUX.1 [dev] are derivatives under its own licence.
    pub fn required_licence(&self) -> Option<Licence> {
        known(self.id.as_deref().unwrap_or(&self.name)).and_then(|(_, _, licence)| Licence::of((*licence)?))
    }

    /// What to propose: the required one, or Apache-2.0 where the base has it too.
    pub fn usual_licence(&self) -> Option<Licence> {
        let free = self.is_embedded() || self.id.as_deref().is_some_and(|id| known(id).is_some_and(|(_, _, required)| required.is_none()));
        self.required_licence().or_else(|| if free { Licence::of("apache-2.0") } else { None })
    }

    pub fn is_embedded(&self) -> bool {
        self.id.is_none() && self.name == EMBEDDED
    }

    /// What `from_pretrained` takes.
    pub fn pretrained(&self) -> String {
        let here = if self.is_embedded() { format!("models/{EMBEDDED}") } else { format!("path/to/{}", self.name) };
        self.id.clone().unwrap_or(here)
    }
}

/// By the last part of the name; an owner that is given must be the right one.
fn known(name: &str) -> Option<&'static (&'static str, &'static str, Option<&'static str>)> {
    let name = name.to_lowercase();
    KNOWN.iter().find(|(short, id, _)| name == *short || name == id.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_and_their_licences() {
        let licence = |name: &str| Base::of(name).usual_licence().map(|licence| licence.id);
        assert_eq!(licence("FLUX.1-dev"), Some(DEV));
        assert_eq!(licence("black-forest-labs/FLUX.1-Krea-dev"), Some(DEV));
        assert_eq!(licence("FLUX.1-schnell"), Some("apache-2.0"));
        assert_eq!(licence("flux-mini"), Some("apache-2.0"));
        assert_eq!(licence("somebody/FLUX.1-dev"), None, "a copy may have other terms");
        assert_eq!(licence("my-model"), None);
        assert_eq!(Base::of("flux.1-dev").id.as_deref(), Some("black-forest-labs/FLUX.1-dev"));
        assert_eq!(Base::of("ada/mini"), Base { name: "mini".into(), id: Some("ada/mini".into()) });
        assert_eq!(Base::of("flux-mini").pretrained(), "models/flux-mini");
    }
}
