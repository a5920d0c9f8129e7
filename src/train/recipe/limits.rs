//! The limits of every recipe value, each told in one sentence.

use super::Recipe;
use crate::{Error, Result};
use engine::GenerateParams;
use std::fmt::Display;
use std::ops::RangeInclusive;

pub fn check(recipe: &Recipe) -> Result<()> {
    whole("rank", recipe.rank, 1..=512)?;
    number("alpha", recipe.alpha, 1e-3..=4096.0)?;
    super::targets::check(&recipe.targets)?;
    whole("steps", recipe.steps, 1..=100_000)?;
    number("learning_rate", recipe.learning_rate, 1e-9..=1.0)?;
    whole("warmup_steps", recipe.warmup_steps, 0..=recipe.steps)?;
    whole("batch_size", recipe.batch_size, 1..=64)?;
    whole("accumulate", recipe.accumulate, 1..=256)?;
    number("max_grad_norm", recipe.max_grad_norm, 1e-6..=1e6)?;
    number("beta1", recipe.beta1, 0.0..=0.9999)?;
    number("beta2", recipe.beta2, 0.0..=0.99999)?;
    number("epsilon", recipe.epsilon, 1e-15..=1e-2)?;
    number("weight_decay", recipe.weight_decay, 0.0..=10.0)?;
    number("caption_dropout", recipe.caption_dropout, 0.0..=1.0)?;
    number("logit_mean", recipe.logit_mean, -10.0..=10.0)?;
    number("logit_std", recipe.logit_std, 1e-3..=10.0)?;
    // Beyond these the mode density is no longer monotone in its argument and leaves 0..1.
    number("mode_scale", recipe.mode_scale, -1.0..=1.75)?;
    number("guidance", recipe.guidance, 0.0..=100.0)?;
    whole("max_sequence_length", recipe.max_sequence_length, 1..=GenerateParams::MAX_SEQUENCE_LENGTH)?;
    // TOML knows signed numbers only.
    whole("seed", recipe.seed, 0..=i64::MAX as u64)?;
    whole("keep_checkpoints", recipe.keep_checkpoints, 1..=1000)?;
    whole("sample_steps", recipe.sample_steps, 1..=GenerateParams::MAX_STEPS)?;
    number("sample_guidance", recipe.sample_guidance, 0.0..=100.0)?;
    resolution(recipe)?;
    prompts(recipe)
}

fn resolution(recipe: &Recipe) -> Result<()> {
    const MOST_TOKENS: usize = 16_384;
    if recipe.resolution.tokens() <= MOST_TOKENS && recipe.resolution.width().min(recipe.resolution.height()) >= 32 {
        return Ok(());
    }
    Err(Error::Recipe(format!("resolution {} must have sides of 32 or more and at most as many pixels as 2048x2048", recipe.resolution)))
}

fn prompts(recipe: &Recipe) -> Result<()> {
    whole("sample_prompts (how many)", recipe.sample_prompts.len(), 0..=16)?;
    for prompt in &recipe.sample_prompts {
        whole("sample_prompts (characters of one)", prompt.chars().count(), 1..=GenerateParams::MAX_PROMPT_CHARS)?;
    }
    Ok(())
}

fn whole<T: PartialOrd + Display>(name: &str, given: T, allowed: RangeInclusive<T>) -> Result<()> {
    if allowed.contains(&given) {
        return Ok(());
    }
    Err(Error::Recipe(format!("{name} {given} must be a whole number from {} to {}", allowed.start(), allowed.end())))
}

fn number(name: &str, given: f64, allowed: RangeInclusive<f64>) -> Result<()> {
    // NaN lies in no range.
    if allowed.contains(&given) {
        return Ok(());
    }
    Err(Error::Recipe(format!("{name} {given} must be a number from {} to {}", allowed.start(), allowed.end())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_outside_its_limits_is_refused_by_name() {
        type Spoil = fn(&mut Recipe);
        let cases: [(&str, Spoil); 12] = [
            ("rank", |r| r.rank = 0),
            ("alpha", |r| r.alpha = 0.0),
            ("steps", |r| r.steps = 0),
            ("learning_rate", |r| r.learning_rate = f64::NAN),
            ("learning_rate", |r| r.learning_rate = f64::INFINITY),
            ("learning_rate", |r| r.learning_rate = -1e-4),
            ("batch_size", |r| r.batch_size = 0),
            ("warmup_steps", |r| r.warmup_steps = r.steps + 1),
            ("caption_dropout", |r| r.caption_dropout = 1.5),
            ("max_sequence_length", |r| r.max_sequence_length = 513),
            ("seed", |r| r.seed = u64::MAX),
            ("resolution", |r| r.resolution = "4096x4096".parse().unwrap()),
        ];
        for (name, spoil) in cases {
            let mut recipe = Recipe::default();
            spoil(&mut recipe);
            let error = recipe.check().unwrap_err().to_string();
            assert!(error.starts_with(name), "{name}: {error}");
        }
        Recipe::default().check().unwrap();
    }
}
