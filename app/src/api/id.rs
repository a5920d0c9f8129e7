//! Names of things, one type each, so that a picture is never looked up as a run.

macro_rules! id {
    ($(#[$doc:meta] $name:ident),* $(,)?) => {$(
        #[$doc]
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }
    )*};
}

id! {
    /// A job: one generation, comparison or training.
    RunId,
    /// A finished picture.
    PictureId,
    /// A set of captioned pictures.
    DatasetId,
    /// A LoRA adapter.
    AdapterId,
    /// A base-against-adapter comparison.
    ComparisonId,
}
