//! How much of a forward pass a training keeps for the backward pass, as a recipe asks for it.

use engine::memory::{self, Placement, Sizes, Workload};
use engine::transformer::Checkpointing;
use serde::{Deserialize, Serialize};

/// `gradient_checkpointing`. It decides time and memory, never the adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "&'static str")]
pub enum Policy {
    /// As much as fits the memory that is free when the training begins.
    #[default]
    Auto,
    None,
    Smart,
    Full,
}

/// What recipes say; before there was a choice, `true` meant `full`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Flag(bool),
    Name(String),
}

impl Policy {
    pub const NAMES: [&str; 4] = ["auto", "none", "smart", "full"];

    /// What is kept, for work that may take `budget` bytes with its model: where nothing fits, as little as can be.
    pub fn resolve(self, sizes: &Sizes, placement: Placement, workload: &Workload, budget: u64) -> Checkpointing {
        match self {
            Self::Auto => memory::choose_checkpointing(sizes, placement, workload, budget).unwrap_or(Checkpointing::Full),
            Self::None => Checkpointing::None,
            Self::Smart => Checkpointing::Smart,
            Self::Full => Checkpointing::Full,
        }
    }
}

impl TryFrom<Written> for Policy {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Flag(true) => Ok(Self::Full),
            Written::Flag(false) => Ok(Self::None),
            Written::Name(name) => name.parse(),
        }
    }
}

impl std::str::FromStr for Policy {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "none" | "false" => Ok(Self::None),
            "smart" => Ok(Self::Smart),
            "full" | "true" => Ok(Self::Full),
            _ => Err(format!("gradient_checkpointing {name:?} must be one of {}", Self::NAMES.join(", "))),
        }
    }
}

impl From<Policy> for &'static str {
    fn from(policy: Policy) -> Self {
        Policy::NAMES[policy as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;

    #[test]
    fn names_and_the_old_flags_are_read() {
        let read =
            |value: &str| Recipe::from_toml(&format!("gradient_checkpointing = {value}")).map(|recipe| recipe.gradient_checkpointing);
        for (value, policy) in [
            ("\"auto\"", Policy::Auto),
            ("\"none\"", Policy::None),
            ("\"smart\"", Policy::Smart),
            ("\"full\"", Policy::Full),
            ("true", Policy::Full),
            ("false", Policy::None),
        ] {
            assert_eq!(read(value).unwrap(), policy, "{value}");
        }
        assert_eq!(Recipe::from_toml("").unwrap().gradient_checkpointing, Policy::Auto);
        assert!(read("\"some\"").unwrap_err().to_string().contains("auto, none, smart, full"));
        for policy in [Policy::Auto, Policy::None, Policy::Smart, Policy::Full] {
            assert_eq!(<&str>::from(policy).parse(), Ok(policy));
        }
    }
}
