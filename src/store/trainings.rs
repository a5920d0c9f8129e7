//! What a training leaves on its way: losses and sample pictures.

use super::{Claim, Error, Owner, Result, Store};
use app::api::{LossPoint, RunId, Sample};
use sqlx::FromRow;
use std::path::{Path, PathBuf};

#[derive(FromRow)]
struct LossRow {
    step: u32,
    loss: Option<f64>,
    learning_rate: f64,
    gradient_norm: Option<f64>,
}

/// Below a run's folder: the trainer's own.
pub const TRAINING_FOLDER: &str = "training";

impl Store {
    /// Steps that are taken again after an interruption give the same numbers, and take their place.
    pub async fn add_loss(&self, claim: &Claim, point: &LossPoint) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO losses (run, step, loss, learning_rate, gradient_norm) VALUES (?, ?, ?, ?, ?)";
        sqlx::query(sql)
            .bind(&claim.run.0)
            .bind(point.step)
            .bind(point.loss)
            .bind(point.learning_rate)
            .bind(point.gradient_norm)
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// Points after step `after`, in order.
    pub async fn losses(&self, run: &RunId, after: u32) -> Result<Vec<LossPoint>> {
        let sql = "SELECT step, loss, learning_rate, gradient_norm FROM losses WHERE run = ? AND step > ? ORDER BY step";
        let rows: Vec<LossRow> = sqlx::query_as(sql).bind(&run.0).bind(after).fetch_all(&self.db).await?;
        Ok(rows.into_iter().map(LossPoint::from).collect())
    }

    /// 0 before the first.
    pub async fn last_loss_step(&self, run: &RunId) -> Result<u32> {
        let sql = "SELECT coalesce(max(step), 0) FROM losses WHERE run = ?";
        Ok(sqlx::query_scalar(sql).bind(&run.0).fetch_one(&self.db).await?)
    }

    /// Mean loss of the newest steps: a single one says little.
    pub async fn recent_loss(&self, run: &RunId) -> Result<Option<f64>> {
        let sql = "SELECT avg(loss) FROM (SELECT loss FROM losses WHERE run = ? ORDER BY step DESC LIMIT 20)";
        Ok(sqlx::query_scalar(sql).bind(&run.0).fetch_one(&self.db).await?)
    }

    /// `path` lies in the trainer's folder.
    pub async fn add_sample(&self, claim: &Claim, step: u32, prompt: &str, path: &Path) -> Result<Sample> {
        let folder = self.run_folder(&claim.run).join(TRAINING_FOLDER);
        let outside = || Error::Conflict(format!("{} is not in the training's folder", path.display()));
        let file = path.strip_prefix(&folder).ok().and_then(Path::to_str).ok_or_else(outside)?;
        let sql = "INSERT OR REPLACE INTO samples (run, file, step, prompt) VALUES (?, ?, ?, ?)";
        sqlx::query(sql).bind(&claim.run.0).bind(file).bind(step).bind(prompt).execute(&self.db).await?;
        Ok(sample(&claim.run, file, step, prompt.to_owned()))
    }

    pub async fn samples(&self, run: &RunId) -> Result<Vec<Sample>> {
        let rows: Vec<(String, u32, String)> = sqlx::query_as("SELECT file, step, prompt FROM samples WHERE run = ? ORDER BY step, file")
            .bind(&run.0)
            .fetch_all(&self.db)
            .await?;
        Ok(rows.into_iter().map(|(file, step, prompt)| sample(run, &file, step, prompt)).collect())
    }

    /// Those of the newest checkpoint.
    pub async fn last_samples(&self, run: &RunId) -> Result<Vec<Sample>> {
        let samples = self.samples(run).await?;
        let newest = samples.iter().map(|sample| sample.step).max();
        Ok(samples.into_iter().filter(|sample| Some(sample.step) == newest).collect())
    }

    /// Pictures, caches and checkpoints of a training. Losses stay: they are small, and tell what was done.
    pub(super) async fn delete_training_files(&self, run: &RunId) -> Result<()> {
        sqlx::query("DELETE FROM samples WHERE run = ?").bind(&run.0).execute(&self.db).await?;
        match tokio::fs::remove_dir_all(self.run_folder(run)).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// A run that ended without an adapter leaves nothing to use or to go on from, and nobody could delete its files.
    pub async fn discard_without_adapter(&self, run: &RunId) -> Result<()> {
        match self.adapter_of(run).await? {
            Some(_) => Ok(()),
            None => self.delete_training_files(run).await,
        }
    }

    /// Where a sample picture lies, if the run has one of that name.
    pub async fn sample_file(&self, owner: &Owner, run: &RunId, name: &str) -> Result<PathBuf> {
        self.run(owner, run).await?;
        let files: Vec<String> = sqlx::query_scalar("SELECT file FROM samples WHERE run = ?").bind(&run.0).fetch_all(&self.db).await?;
        let file = files.into_iter().find(|file| file_name(file) == name).ok_or_else(|| Error::not_found("sample picture", name))?;
        Ok(self.run_folder(run).join(TRAINING_FOLDER).join(file))
    }
}

fn sample(run: &RunId, file: &str, step: u32, prompt: String) -> Sample {
    Sample { step, prompt, url: format!("/files/runs/{run}/samples/{}", file_name(file)) }
}

fn file_name(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}

impl From<LossRow> for LossPoint {
    fn from(row: LossRow) -> Self {
        // SQLite keeps NaN as NULL.
        let (loss, gradient_norm) = (row.loss.unwrap_or(f64::NAN), row.gradient_norm.unwrap_or(f64::NAN));
        Self { step: row.step, loss, learning_rate: row.learning_rate, gradient_norm }
    }
}
