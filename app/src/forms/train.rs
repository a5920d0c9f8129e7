//! The form of the Train page: a recipe, and what is changed in it.

use super::number::{real, whole};
use crate::api::{ApiResult, DatasetId, RecipeSettings, TrainRequest, limits};
use serde::{Deserialize, Serialize};

/// As typed. Empty values keep the recipe's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainForm {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dataset: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub recipe: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub steps: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rank: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub alpha: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub learning_rate: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub schedule: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub warmup_steps: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub batch_size: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub accumulate: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub targets: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub optimizer: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub timestep_sampling: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub weighting: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub guidance: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub caption_dropout: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resolution: String,
    /// `yes`, `no` or empty, as the next.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub buckets: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub flip: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gradient_checkpointing: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub seed: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub checkpoint_every: String,
    /// One a line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sample_prompts: String,
}

impl TrainForm {
    pub fn query(&self) -> String {
        super::write_query(self)
    }

    pub fn request(&self) -> ApiResult<TrainRequest> {
        Ok(TrainRequest {
            dataset: DatasetId(self.dataset.clone()),
            name: self.name.trim().to_owned(),
            recipe: self.recipe.clone(),
            settings: self.settings()?,
        })
    }

    fn settings(&self) -> ApiResult<RecipeSettings> {
        Ok(RecipeSettings {
            steps: whole("Steps", &self.steps, 1..=limits::MAX_TRAIN_STEPS)?,
            rank: whole("Rank", &self.rank, 1..=limits::MAX_RANK)?,
            alpha: real("Alpha", &self.alpha, 0.001..=4096.0)?,
            learning_rate: real("Learning rate", &self.learning_rate, 1e-9..=1.0)?,
            schedule: text(&self.schedule),
            warmup_steps: whole("Warm-up steps", &self.warmup_steps, 0..=limits::MAX_TRAIN_STEPS)?,
            batch_size: whole("Batch size", &self.batch_size, 1..=64)?,
            accumulate: whole("Accumulation", &self.accumulate, 1..=256)?,
            targets: text(&self.targets),
            optimizer: text(&self.optimizer),
            timestep_sampling: text(&self.timestep_sampling),
            weighting: text(&self.weighting),
            guidance: real("Guidance", &self.guidance, 0.0..=100.0)?,
            caption_dropout: real("Caption dropout", &self.caption_dropout, 0.0..=1.0)?,
            resolution: text(&self.resolution).map(|size| size.replace('×', "x")),
            buckets: choice(&self.buckets),
            flip: choice(&self.flip),
            seed: whole("Seed", &self.seed, 0..=limits::MAX_SEED)?,
            checkpoint_every: whole("Checkpoint every", &self.checkpoint_every, 0..=limits::MAX_TRAIN_STEPS)?,
            sample_prompts: lines(&self.sample_prompts),
            gradient_checkpointing: text(&self.gradient_checkpointing),
        })
    }
}

fn text(typed: &str) -> Option<String> {
    Some(typed.trim().to_owned()).filter(|text| !text.is_empty())
}

fn choice(typed: &str) -> Option<bool> {
    match typed {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn lines(typed: &str) -> Option<Vec<String>> {
    let lines: Vec<_> = typed.lines().filter_map(text).collect();
    Some(lines).filter(|lines| !lines.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untouched_form_changes_nothing_in_the_recipe() {
        let form = TrainForm { dataset: "d".into(), name: " My style ".into(), recipe: "quick".into(), ..TrainForm::default() };
        let request = form.request().unwrap();
        assert_eq!(request.settings, RecipeSettings::default());
        assert_eq!(request.name, "My style");
    }

    #[test]
    fn what_cannot_be_trained_is_refused_by_name() {
        let spoilt = [
            ("Rank", TrainForm { rank: "0".into(), ..TrainForm::default() }),
            ("Steps", TrainForm { steps: "0".into(), ..TrainForm::default() }),
            ("Learning rate", TrainForm { learning_rate: "NaN".into(), ..TrainForm::default() }),
            ("Learning rate", TrainForm { learning_rate: "0".into(), ..TrainForm::default() }),
        ];
        for (name, form) in spoilt {
            assert!(form.request().unwrap_err().message.starts_with(name), "{name}");
        }
    }

    #[test]
    fn sample_prompts_are_lines() {
        let form = TrainForm { sample_prompts: "a lake\n\n  a boat \r\n".into(), ..TrainForm::default() };
        assert_eq!(form.settings().unwrap().sample_prompts, Some(vec!["a lake".into(), "a boat".into()]));
    }
}
