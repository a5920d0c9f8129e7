//! What one of several people may take of the machine, checked before anything is queued or kept.

use super::{Jobs, error};
use crate::store::{Error, Owner, Result};
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

    /// So much more is not too much: asked again before it is kept, since several uploads may have come at once.
    pub async fn check_fits(&self, owner: &Owner, bytes: u64) -> Result<()> {
        match self.storage_left(owner).await? {
            left if bytes > left => Err(Error::Conflict(format!(
                "This takes {} MiB, and your storage has room for {}. Delete something that you no longer need, then try again.",
                bytes.div_ceil(1 << 20),
                left >> 20
            ))),
            _ => Ok(()),
        }
    }

    pub(super) fn check_steps(&self, owner: &Owner, recipe: &Recipe) -> error::Result<()> {
        let most = self.limits.train_steps;
        match owner.is_limited() && recipe.steps > most as usize {
            true => Err(error::Error::refused(format!("{} training steps are too many here; at most {most} are allowed.", recipe.steps))),
            false => Ok(()),
        }
    }
}
