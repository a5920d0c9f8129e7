//! From `--recipe`, `--set` and single flags to one training recipe: later ones win, and every value is checked.

use super::fault::usage;
use anyhow::Result;
use clap::Args;
use engine::{Pipeline, Size};
use train::{Recipe, recipe::Policy};

#[derive(Args, Debug, Default)]
pub struct Arguments {
    /// Built-in recipe, or a TOML file
    #[arg(long, value_name = "NAME|FILE.toml")]
    recipe: Option<String>,
    /// Any field of the recipe; may be given again
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Optimiser steps
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// Rank of the adapter: 4 to 32 suits most; sets alpha to the same unless --alpha is given
    #[arg(long, value_name = "R")]
    rank: Option<usize>,
    /// Strength of the adapter is alpha / rank
    #[arg(long, value_name = "A")]
    alpha: Option<f64>,
    /// How far each step moves the weights: about 1e-4 for FLUX.1, 1e-3 for flux-mini
    #[arg(long, value_name = "X")]
    learning_rate: Option<f64>,
    /// Size that pictures are trained at, such as 256x256 or 192x288
    #[arg(long, value_name = "WxH")]
    resolution: Option<Size>,
    /// Pictures a micro-batch
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Micro-batches an optimiser step
    #[arg(long, value_name = "N")]
    accumulate: Option<usize>,
    /// Which layers: attention, attention+context, all-linear, blocks:…, names, or a regular expression
    #[arg(long, value_name = "PRESET|PATTERN")]
    targets: Option<String>,
    /// Of the first weights, the order and the noise
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Steps between checkpoints; 0 writes one at the end only
    #[arg(long, value_name = "N")]
    checkpoint_every: Option<usize>,
    /// Painted at every checkpoint; may be given again
    #[arg(long = "sample-prompt", value_name = "P")]
    sample_prompts: Vec<String>,
}

impl Arguments {
    /// The checked recipe. Built-in ones depend on the model's size, once there is a model.
    pub fn recipe(&self, pipeline: Option<&Pipeline>) -> Result<Recipe> {
        let recipe = match (&self.recipe, pipeline) {
            (None, _) => Recipe::default(),
            (Some(name), None) => Recipe::load(name)?,
            (Some(name), Some(pipeline)) => Recipe::load_for(name, &pipeline.transformer.config)?,
        };
        let recipe = self.over(set(recipe, &self.set)?);
        recipe.check()?;
        Ok(recipe)
    }

    /// Refuses to go on with a run under other settings than it was started with; only its length and its policy of checkpointing may change.
    pub fn check_same(&self, run: &Recipe, pipeline: &Pipeline) -> Result<()> {
        let base = self.recipe.as_ref().map_or_else(|| Ok(run.clone()), |name| Recipe::load_for(name, &pipeline.transformer.config))?;
        let gradient_checkpointing = run.gradient_checkpointing;
        let wanted = Recipe { name: run.name.clone(), steps: run.steps, gradient_checkpointing, ..self.over(set(base, &self.set)?) };
        if wanted == *run {
            return Ok(());
        }
        let (old, new) = (toml::Table::try_from(run)?, toml::Table::try_from(&wanted)?);
        let other: Vec<_> = old.iter().filter(|(key, value)| new.get(*key) != Some(value)).map(|(key, _)| key.as_str()).collect();
        Err(usage(format!(
            "--resume: this run was started with another {}; leave it as it was, or start a run in another folder",
            other.join(", ")
        )))
    }

    /// What is to be kept for the backward pass, if `--set` says so: it may change within a run.
    pub fn policy(&self) -> Result<Option<Policy>> {
        let given = self.set.iter().rev().find_map(|pair| pair.split_once('=').filter(|(key, _)| key.trim() == "gradient_checkpointing"));
        given.map(|(_, value)| value.trim().parse().map_err(|problem: String| usage(format!("--set {problem}")))).transpose()
    }

    /// The single flags over a recipe.
    fn over(&self, base: Recipe) -> Recipe {
        Recipe {
            steps: self.steps.unwrap_or(base.steps),
            rank: self.rank.unwrap_or(base.rank),
            alpha: self.alpha.or(self.rank.map(|rank| rank as f64)).unwrap_or(base.alpha),
            learning_rate: self.learning_rate.unwrap_or(base.learning_rate),
            resolution: self.resolution.unwrap_or(base.resolution),
            batch_size: self.batch_size.unwrap_or(base.batch_size),
            accumulate: self.accumulate.unwrap_or(base.accumulate),
            targets: self.targets.clone().unwrap_or(base.targets),
            seed: self.seed.unwrap_or(base.seed),
            checkpoint_every: self.checkpoint_every.unwrap_or(base.checkpoint_every),
            sample_prompts: if self.sample_prompts.is_empty() { base.sample_prompts } else { self.sample_prompts.clone() },
            ..base
        }
    }
}

/// `--set KEY=VALUE`, the value as TOML or, where that fails, as plain text.
fn set(recipe: Recipe, pairs: &[String]) -> Result<Recipe> {
    if pairs.is_empty() {
        return Ok(recipe);
    }
    let mut table = toml::Table::try_from(&recipe)?;
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(usage(format!("--set {pair}: write KEY=VALUE, such as --set warmup_steps=20")));
        };
        let (key, value) = (key.trim(), value.trim());
        let Some(old) = table.get(key) else {
            let known = table.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(usage(format!("--set {key}: a recipe has no such field; it has {known}")));
        };
        let new = parsed(old, value);
        table.insert(key.to_owned(), new);
        table.clone().try_into::<Recipe>().map_err(|e| usage(format!("--set {pair}: {}", e.message())))?;
    }
    Ok(table.try_into()?)
}

fn parsed(old: &toml::Value, text: &str) -> toml::Value {
    let read = format!("value = {text}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("value"));
    match read {
        Some(toml::Value::Integer(whole)) if old.is_float() => toml::Value::Float(whole as f64),
        Some(value) if value.same_type(old) => value,
        _ => toml::Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[&str]) -> Result<Recipe> {
        Arguments { set: pairs.iter().map(|pair| pair.to_string()).collect(), ..Arguments::default() }.recipe(None)
    }

    #[test]
    fn any_field_can_be_set() {
        let recipe = with(&["warmup_steps=20", "flip=true", "schedule=cosine", "weight_decay = 0", "resolution=192x288"]).unwrap();
        assert_eq!((recipe.warmup_steps, recipe.flip, recipe.weight_decay), (20, true, 0.0));
        assert_eq!((recipe.schedule, recipe.resolution.to_string().as_str()), (train::recipe::Schedule::Cosine, "192x288"));
    }

    #[test]
    fn an_unknown_field_or_value_is_refused() {
        assert!(with(&["warmup=20"]).unwrap_err().to_string().contains("warmup_steps"));
        for pair in ["schedule=square", "flip=perhaps", "steps", "resolution=100x100", "steps=0", "learning_rate=nan"] {
            assert!(with(&[pair]).is_err(), "{pair}");
        }
    }

    #[test]
    fn a_policy_is_set_by_name_or_as_it_was() {
        for (value, policy) in [("smart", Policy::Smart), ("true", Policy::Full), ("false", Policy::None)] {
            let pair = format!("gradient_checkpointing={value}");
            assert_eq!(with(&[&pair]).unwrap().gradient_checkpointing, policy);
            let arguments = Arguments { set: vec![pair], ..Arguments::default() };
            assert_eq!(arguments.policy().unwrap(), Some(policy));
        }
        assert_eq!(Arguments::default().policy().unwrap(), None);
        assert!(with(&["gradient_checkpointing=some"]).is_err());
    }

    #[test]
    fn rank_brings_its_alpha() {
        let recipe = Arguments { rank: Some(4), ..Arguments::default() }.recipe(None).unwrap();
        assert_eq!((recipe.rank, recipe.alpha), (4, 4.0));
        let recipe = Arguments { rank: Some(4), alpha: Some(8.0), ..Arguments::default() }.recipe(None).unwrap();
        assert_eq!(recipe.alpha, 8.0);
    }
}
