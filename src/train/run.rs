//! A run's folder: recipe, dataset description, caches, checkpoints, samples, events, adapter and what made it.

use crate::dataset::sha256;
use crate::recipe::Policy;
use crate::state::{self, Identity, State};
use crate::{Dataset, Error, Recipe, Result, atomic};
use engine::Pipeline;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const RECIPE: &str = "recipe.toml";
const DATASET: &str = "dataset.json";
const DESCRIPTION: &str = "adapter.json";

pub struct Run {
    pub folder: PathBuf,
    pub recipe: Recipe,
    /// Items in the order of their hashes, so that file names and listing order decide nothing.
    pub dataset: Dataset,
    base: BaseModel,
}

/// The model that the run belongs to.
struct BaseModel {
    name: String,
    /// SHA-256 over the fingerprints of its parts.
    hash: String,
}

/// `adapter.json`: where an adapter comes from.
#[derive(Serialize)]
struct Description<'a> {
    name: &'a str,
    /// Seconds since 1970.
    created: u64,
    base_model: &'a str,
    base_model_hash: &'a str,
    trigger: Option<&'a str>,
    steps: usize,
    trainable_parameters: usize,
    /// Mean of the last tenth of the steps: a single step's depends on its noise more than on the weights.
    final_loss: Option<f64>,
    mean_loss: Option<f64>,
    recipe: &'a Recipe,
    dataset: DatasetDescription<'a>,
    versions: Versions,
}

#[derive(Serialize)]
struct DatasetDescription<'a> {
    fingerprint: String,
    pictures: Vec<&'a str>,
    captions: usize,
}

#[derive(Serialize)]
struct Versions {
    atelier: &'static str,
    /// Of the files of a run.
    format: u32,
}

impl Run {
    /// Makes the folder and writes recipe and dataset description.
    pub fn create(pipeline: &Pipeline, recipe: Recipe, dataset: Dataset, folder: &Path) -> Result<Self> {
        if folder.join(RECIPE).exists() {
            let folder = folder.display();
            return Err(Error::State(format!("{folder} already holds a run; resume it, or choose another folder")));
        }
        let run = Self::new(pipeline, recipe, dataset, folder)?;
        state::check_writable(folder)?;
        let items = serde_json::to_vec_pretty(&run.dataset.items).map_err(std::io::Error::from)?;
        atomic::write(&folder.join(DATASET), &items)?;
        // Last, because its presence says that there is a run.
        atomic::write(&folder.join(RECIPE), run.recipe.to_toml().as_bytes())?;
        Ok(run)
    }

    pub fn reopen(pipeline: &Pipeline, dataset: Dataset, folder: &Path) -> Result<Self> {
        Self::new(pipeline, Self::recipe_in(folder)?, dataset, folder)
    }

    fn recipe_in(folder: &Path) -> Result<Recipe> {
        let recipe = folder.join(RECIPE);
        if !recipe.is_file() {
            return Err(Error::State(format!("{} holds no run to go on with; start one there first", folder.display())));
        }
        Recipe::from_toml(&fs::read_to_string(recipe)?)
    }

    pub fn replace_recipe(&mut self, recipe: Recipe) -> Result<()> {
        atomic::write(&self.folder.join(RECIPE), recipe.to_toml().as_bytes())?;
        self.recipe = recipe;
        Ok(())
    }

    /// Has the run in `folder` go on with another policy: what is kept for the backward pass may change on the way.
    pub fn change_policy(folder: &Path, policy: Policy) -> Result<()> {
        let recipe = Recipe { gradient_checkpointing: policy, ..Self::recipe_in(folder)? };
        atomic::write(&folder.join(RECIPE), recipe.to_toml().as_bytes())
    }

    pub fn name(&self) -> &str {
        self.folder.file_name().and_then(|name| name.to_str()).unwrap_or("adapter")
    }

    pub fn adapter_file(&self) -> PathBuf {
        self.folder.join(state::ADAPTER)
    }

    /// What a checkpoint and the run that goes on from it must have in common.
    pub fn identity(&self) -> Identity {
        Identity { recipe: self.recipe_hash(), dataset: self.dataset.fingerprint(), model: self.base.hash.clone() }
    }

    /// All of the recipe but its length, its samples, and what changes time and memory alone.
    fn recipe_hash(&self) -> String {
        let Recipe {
            steps,
            checkpoint_every,
            keep_checkpoints,
            sample_prompts,
            sample_steps,
            sample_guidance,
            name,
            gradient_checkpointing,
            ..
        } = Recipe::default();
        let fixed = Recipe {
            gradient_checkpointing,
            steps,
            checkpoint_every,
            keep_checkpoints,
            sample_prompts,
            sample_steps,
            sample_guidance,
            name,
            ..self.recipe.clone()
        };
        // As it was written before there was a choice: runs from then go on.
        let toml = fixed.to_toml().replace("gradient_checkpointing = \"auto\"", "gradient_checkpointing = false");
        sha256(toml.as_bytes())
    }

    /// For the adapter file's own header, under the names that other tools read (Stability's ModelSpec).
    pub fn header(&self) -> BTreeMap<String, String> {
        let mut header = BTreeMap::from([
            ("modelspec.architecture".to_owned(), "flux-1-dev/lora".to_owned()),
            ("modelspec.title".to_owned(), self.name().to_owned()),
        ]);
        if let Some(trigger) = &self.dataset.trigger {
            header.insert("modelspec.trigger_phrase".to_owned(), trigger.clone());
        }
        header
    }

    /// Writes `adapter.json` beside the finished adapter.
    pub fn describe_adapter(&self, state: &State, trainable_parameters: usize) -> Result<()> {
        let losses = &state.losses;
        let mean = |losses: &[f64]| (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64);
        let items = &self.dataset.items;
        let description = Description {
            name: self.name(),
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            base_model: &self.base.name,
            base_model_hash: &self.base.hash,
            trigger: self.dataset.trigger.as_deref(),
            steps: state.step,
            trainable_parameters,
            final_loss: mean(&losses[losses.len() - losses.len().div_ceil(10)..]),
            mean_loss: mean(losses),
            recipe: &self.recipe,
            dataset: DatasetDescription {
                fingerprint: self.dataset.fingerprint(),
                pictures: items.iter().map(|item| item.sha256.as_str()).collect(),
                captions: items.len(),
            },
            versions: Versions { atelier: env!("CARGO_PKG_VERSION"), format: 1 },
        };
        let json = serde_json::to_vec_pretty(&description).map_err(std::io::Error::from)?;
        atomic::write(&self.folder.join(DESCRIPTION), &json)
    }

    fn new(pipeline: &Pipeline, recipe: Recipe, mut dataset: Dataset, folder: &Path) -> Result<Self> {
        if dataset.items.is_empty() {
            return Err(Error::Dataset("the set holds no pictures; add one or more".into()));
        }
        dataset.items.sort_by(|a, b| a.sha256.cmp(&b.sha256));
        let parts = [pipeline.text_encoder.fingerprint()?, pipeline.transformer.fingerprint()?, pipeline.vae.fingerprint()?];
        let base = BaseModel { name: pipeline.name.clone(), hash: sha256(parts.concat().as_bytes()) };
        Ok(Self { folder: folder.to_owned(), recipe, dataset, base })
    }
}
