//! How much of the disk is one owner's: what that owner can delete.

use super::{Owner, Result, Store, trainings::TRAINING_FOLDER};
use std::path::Path;

impl Store {
    /// Bytes of pictures, style sets, adapters, and what their trainings left.
    pub async fn bytes_of(&self, owner: &Owner) -> Result<u64> {
        let sql = "SELECT (SELECT coalesce(sum(bytes), 0) FROM pictures WHERE owner = ?1)
            + (SELECT coalesce(sum(bytes), 0) FROM adapters WHERE owner = ?1)
            + (SELECT coalesce(sum(bytes), 0) FROM dataset_items JOIN datasets ON datasets.id = dataset WHERE owner = ?1)";
        let rows: i64 = sqlx::query_scalar(sql).bind(owner.id()).fetch_one(&self.db).await?;
        let runs: Vec<String> =
            sqlx::query_scalar("SELECT run FROM adapters WHERE owner = ? AND run IS NOT NULL").bind(owner.id()).fetch_all(&self.db).await?;
        let folders: Vec<_> = runs.into_iter().map(|run| self.run_folder(&run.into()).join(TRAINING_FOLDER)).collect();
        let trainings = tokio::task::spawn_blocking(move || folders.iter().map(|folder| bytes_in(folder)).sum::<u64>());
        Ok(rows as u64 + trainings.await.unwrap_or_default())
    }
}

/// Of every file below; what vanishes meanwhile counts nothing.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}
