//! What one of several people may take of the machine, checked before anything is queued or kept.

use super::{Jobs, error};
use crate::store::{Error, Owner, Result};
use tokio::sync::MutexGuard;
use train::Recipe;

impl Jobs {
    /// There is room for one more run of this owner's, and for what it will make.
    pub(super) async fn check_share(&self, owner: &Owner) -> Result<()> {
        if !owner.is_limited() {
            return Ok(());
        }
        let (active, most) = (self.store.count_active(owner).await?, self.limits.runs);
        if active >= i64::from(most) {
            return Err(Error::Conflict(format!(
                "{active} of your jobs wait or run already; at most {most} may at a time. Cancel one, or wait until one is done."
            )));
        }
        self.storage_left(owner).await.map(drop)
    }

    /// Bytes that this owner may still keep; refused when there are none.
    pub async fn storage_left(&self, owner: &Owner) -> Result<u64> {
        if !owner.is_limited() {
            return Ok(u64::MAX);
        }
        let most = self.limits.storage;
        match most.saturating_sub(self.store.bytes_of(owner).await?) {
            0 => Err(Error::Conflict(format!(
                "Your {:.1} GiB of storage are full. Delete pictures, style sets or adapters that you no longer need, then try again.",
                most as f64 / (1_u64 << 30) as f64
            ))),
            left => Ok(left),
        }
    }

    /// Room for so much more, kept for the caller until it is written: several uploads may have come at once.
    pub async fn room_for(&self, owner: &Owner, bytes: u64) -> Result<MutexGuard<'_, ()>> {
        let room = self.keeping.lock().await;
        match self.storage_left(owner).await? {
            left if bytes > left => Err(Error::Conflict(format!(
                "This takes {} MiB, and your storage has room for {}. Delete something that you no longer need, then try again.",
                bytes.div_ceil(1 << 20),
                left >> 20
            ))),
            _ => Ok(room),
        }
    }

    pub(super) fn check_steps(&self, owner: &Owner, recipe: &Recipe) -> error::Result<()> {
        let (steps, most) = (work(recipe), u64::from(self.limits.train_steps));
        match owner.is_limited() && steps > most {
            true => Err(error::Error::refused(format!(
                "This training would take {steps} steps, with those of its samples and of each picture in a batch; at most {most} are allowed."
            ))),
            false => Ok(()),
        }
    }
}

/// Passes through the transformer: of each picture in a batch, and of each step of a sample.
fn work(recipe: &Recipe) -> u64 {
    let checkpoints = recipe.steps.div_ceil(if recipe.checkpoint_every == 0 { recipe.steps } else { recipe.checkpoint_every });
    let samples = checkpoints * recipe.sample_prompts.len() * recipe.sample_steps;
    (recipe.steps * recipe.batch_size * recipe.accumulate + samples) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pass_counts_and_the_built_in_recipes_are_allowed() {
        let plain = Recipe { steps: 10, batch_size: 1, accumulate: 1, sample_prompts: Vec::new(), ..Recipe::default() };
        assert_eq!(work(&plain), 10);
        assert_eq!(work(&Recipe { batch_size: 64, accumulate: 256, ..plain.clone() }), 10 * 64 * 256);
        let sampled = Recipe { checkpoint_every: 1, sample_steps: 50, sample_prompts: vec!["x".into(); 16], ..plain.clone() };
        assert_eq!(work(&sampled), 10 + 10 * 16 * 50);
        assert_eq!(work(&Recipe { checkpoint_every: 0, ..sampled }), 10 + 16 * 50);
        for (name, _) in Recipe::NAMES {
            let recipe = Recipe { sample_prompts: vec!["x".into(); 2], ..Recipe::load(name).unwrap() };
            assert!(work(&recipe) <= u64::from(crate::config::UserLimits::default().train_steps), "{name}: {}", work(&recipe));
        }
    }
}
