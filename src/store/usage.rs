//! How much of the disk is one owner's: what that owner can delete.

use super::{Owner, Result, Store};
use std::path::Path;

impl Store {
    /// Bytes of pictures, style sets, adapters, and what trainings took along and left.
    pub async fn bytes_of(&self, owner: &Owner) -> Result<u64> {
        let sql = "SELECT (SELECT coalesce(sum(bytes), 0) FROM pictures WHERE owner = ?1)
            + (SELECT coalesce(sum(bytes), 0) FROM adapters WHERE owner = ?1)
            + (SELECT coalesce(sum(bytes), 0) FROM dataset_items JOIN datasets ON datasets.id = dataset WHERE owner = ?1)";
        let rows: i64 = sqlx::query_scalar(sql).bind(owner.id()).fetch_one(&self.db).await?;
        let runs: Vec<String> =
            sqlx::query_scalar("SELECT id FROM runs WHERE owner = ? AND kind = 'train'").bind(owner.id()).fetch_all(&self.db).await?;
        let folders: Vec<_> = runs.into_iter().map(|run| self.run_folder(&run.into())).collect();
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
