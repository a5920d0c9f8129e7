//! Adapters: trained here or brought along. A training's adapter appears at its first checkpoint and grows with each.

use super::{BlobKey, Claim, Error, Owner, Result, Store};
use app::api::{AdapterId, AdapterInfo, RunId};
use sqlx::{FromRow, QueryBuilder, Sqlite};

/// An adapter is in training as long as its run waits or runs.
const COLUMNS: &str =
    "SELECT *, EXISTS (SELECT 1 FROM runs WHERE runs.id = adapters.run AND state IN ('queued', 'running')) AS training FROM adapters ";

#[derive(FromRow)]
struct Row {
    id: String,
    name: String,
    trigger: Option<String>,
    rank: u32,
    alpha: f64,
    steps: u32,
    loss: Option<f64>,
    bytes: i64,
    training: bool,
    version: i64,
    run: Option<String>,
    dataset: Option<String>,
    base_model: String,
    created_at: i64,
}

/// An adapter's file as the device reads it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AdapterFile {
    pub id: AdapterId,
    pub version: i64,
    pub name: String,
    pub path: std::path::PathBuf,
}

impl Store {
    /// A file of a visitor's, checked by the caller.
    pub async fn add_adapter(&self, owner: &Owner, info: &AdapterInfo, recipe: &serde_json::Value, file: Vec<u8>) -> Result<()> {
        let key = BlobKey::adapter(&info.id, 0);
        self.blobs.put(&key, file).await?;
        match self.upsert_adapter(owner, info, 0, recipe).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.blobs.delete(&key).await.ok();
                Err(error)
            }
        }
    }

    /// A training's adapter at a new checkpoint. The file before stays for whoever is reading it; older ones go.
    pub async fn save_trained_adapter(
        &self,
        claim: &Claim,
        owner: &Owner,
        info: &AdapterInfo,
        recipe: &serde_json::Value,
        file: Vec<u8>,
    ) -> Result<()> {
        let before = self.adapter_version(&info.id).await?;
        let version = before.unwrap_or(0) + 1;
        self.blobs.put(&BlobKey::adapter(&info.id, version), file).await?;
        if !self.holds(claim).await? {
            self.blobs.delete(&BlobKey::adapter(&info.id, version)).await.ok();
            return Err(Error::Fenced);
        }
        self.upsert_adapter(owner, info, version, recipe).await?;
        self.blobs.delete(&BlobKey::adapter(&info.id, version - 2)).await
    }

    async fn upsert_adapter(&self, owner: &Owner, info: &AdapterInfo, version: i64, recipe: &serde_json::Value) -> Result<()> {
        // A name that the visitor gave meanwhile stays.
        let sql = r#"INSERT INTO adapters (id, owner, name, "trigger", rank, alpha, steps, loss, bytes, version, run, dataset, base_model, recipe, created_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (id) DO UPDATE SET steps = excluded.steps, loss = excluded.loss, bytes = excluded.bytes,
                version = excluded.version, recipe = excluded.recipe"#;
        sqlx::query(sql)
            .bind(&info.id.0)
            .bind(owner.id())
            .bind(&info.name)
            .bind(&info.trigger)
            .bind(info.rank)
            .bind(info.alpha)
            .bind(info.steps)
            .bind(info.loss)
            .bind(info.bytes as i64)
            .bind(version)
            .bind(info.run.as_ref().map(|run| &run.0))
            .bind(info.dataset.as_ref().map(|dataset| &dataset.0))
            .bind(&info.base_model)
            .bind(recipe.to_string())
            .bind(info.created_at)
            .execute(&self.db)
            .await?;
        Ok(())
    }

    async fn adapter_version(&self, id: &AdapterId) -> Result<Option<i64>> {
        Ok(sqlx::query_scalar("SELECT version FROM adapters WHERE id = ?").bind(&id.0).fetch_optional(&self.db).await?)
    }

    pub async fn adapters(&self, owner: &Owner) -> Result<Vec<AdapterInfo>> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        owner.push_listed(&mut query);
        query.push(" ORDER BY id DESC LIMIT 1000");
        let rows: Vec<Row> = query.build_query_as().fetch_all(&self.db).await?;
        let mut adapters = Vec::with_capacity(rows.len());
        for row in rows {
            adapters.push(self.with_samples(row).await?);
        }
        Ok(adapters)
    }

    pub async fn adapter(&self, owner: &Owner, id: &AdapterId) -> Result<AdapterInfo> {
        let row = self.adapter_row(owner, id).await?;
        self.with_samples(row).await
    }

    pub async fn adapter_of(&self, run: &RunId) -> Result<Option<AdapterId>> {
        let id: Option<String> = sqlx::query_scalar("SELECT id FROM adapters WHERE run = ?").bind(&run.0).fetch_optional(&self.db).await?;
        Ok(id.map(AdapterId::from))
    }

    /// adapter.json
    pub async fn adapter_recipe(&self, owner: &Owner, id: &AdapterId) -> Result<String> {
        let recipe = sqlx::query_scalar("SELECT recipe FROM adapters WHERE id = ? AND (owner = ? OR ?)").bind(&id.0);
        let recipe = recipe.bind(owner.id()).bind(owner.reaches_all());
        recipe.fetch_optional(&self.db).await?.ok_or_else(|| Error::not_found("adapter", id))
    }

    pub async fn adapter_file(&self, owner: &Owner, id: &AdapterId) -> Result<AdapterFile> {
        let Row { version, name, .. } = self.adapter_row(owner, id).await?;
        let path = self.blobs.path(&BlobKey::adapter(id, version))?;
        Ok(AdapterFile { id: id.clone(), version, name, path })
    }

    async fn adapter_row(&self, owner: &Owner, id: &AdapterId) -> Result<Row> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        query.push("WHERE id = ").push_bind(id.0.clone());
        owner.push_reached(&mut query);
        query.build_query_as().fetch_optional(&self.db).await?.ok_or_else(|| Error::not_found("adapter", id))
    }

    async fn with_samples(&self, row: Row) -> Result<AdapterInfo> {
        let run = row.run.map(RunId::from);
        let samples = match &run {
            Some(run) => self.last_samples(run).await?,
            None => Vec::new(),
        };
        Ok(AdapterInfo {
            id: row.id.into(),
            name: row.name,
            trigger: row.trigger,
            rank: row.rank,
            alpha: row.alpha,
            steps: row.steps,
            loss: row.loss,
            bytes: row.bytes as u64,
            training: row.training,
            run,
            dataset: row.dataset.map(Into::into),
            sample_urls: samples.into_iter().map(|sample| sample.url).collect(),
            base_model: row.base_model,
            created_at: row.created_at,
        })
    }

    pub async fn rename_adapter(&self, owner: &Owner, id: &AdapterId, name: &str) -> Result<()> {
        let sql = "UPDATE adapters SET name = ? WHERE id = ? AND (owner = ? OR ?)";
        let query = sqlx::query(sql).bind(name).bind(&id.0).bind(owner.id()).bind(owner.reaches_all());
        match query.execute(&self.db).await?.rows_affected() {
            0 => Err(Error::not_found("adapter", id)),
            _ => Ok(()),
        }
    }

    /// With what its training left, which cannot be resumed then. Not while that runs: the next checkpoint would bring it back.
    pub async fn delete_adapter(&self, owner: &Owner, id: &AdapterId) -> Result<()> {
        let row = self.adapter_row(owner, id).await?;
        if row.training {
            return Err(Error::Conflict(format!("{} is still being trained. Stop the training first, then delete it.", row.name)));
        }
        sqlx::query("DELETE FROM adapters WHERE id = ?").bind(&id.0).execute(&self.db).await?;
        self.blobs.delete(&BlobKey::adapter(id, row.version)).await?;
        self.blobs.delete(&BlobKey::adapter(id, row.version - 1)).await?;
        match row.run {
            Some(run) => self.delete_training_files(&run.into()).await,
            None => Ok(()),
        }
    }
}
