//! Style sets: captions in rows, pictures as files named by their content.

use super::{BlobKey, Error, Owner, Result, Store, new_id, now};
use app::api::{DatasetId, DatasetInfo, DatasetItem, limits};
use sqlx::{FromRow, QueryBuilder, Sqlite, Transaction};
use std::path::{Path, PathBuf};

/// A checked picture on its way in.
pub struct NewItem {
    pub item: DatasetItem,
    pub extension: &'static str,
    /// Where its bytes lie until they are kept.
    pub file: PathBuf,
    pub thumb: Vec<u8>,
    /// Of picture and thumbnail together.
    pub bytes: u64,
}

#[derive(FromRow)]
struct Row {
    id: String,
    name: String,
    trigger: Option<String>,
    created_at: i64,
}

#[derive(FromRow)]
struct ItemRow {
    id: String,
    file_name: String,
    caption: String,
    width: u32,
    height: u32,
    extension: String,
}

impl Store {
    /// A new set with these pictures; nothing of it stays when anything fails.
    pub async fn create_dataset(&self, owner: &Owner, name: &str, trigger: Option<&str>, items: Vec<NewItem>) -> Result<DatasetId> {
        let id: DatasetId = new_id();
        match self.write_dataset(owner, &id, name, trigger, items).await {
            Ok(()) => Ok(id),
            Err(error) => {
                std::fs::remove_dir_all(self.blobs.folder("datasets").join(&id.0)).ok();
                Err(error)
            }
        }
    }

    async fn write_dataset(&self, owner: &Owner, id: &DatasetId, name: &str, trigger: Option<&str>, items: Vec<NewItem>) -> Result<()> {
        self.put_items(id, &items).await?;
        let mut tx = self.db.begin().await?;
        sqlx::query(r#"INSERT INTO datasets (id, owner, name, "trigger", created_at) VALUES (?, ?, ?, ?, ?)"#)
            .bind(&id.0)
            .bind(owner.id())
            .bind(name)
            .bind(trigger)
            .bind(now())
            .execute(&mut *tx)
            .await?;
        insert_items(&mut tx, id, &items).await?;
        Ok(tx.commit().await?)
    }

    /// Adds pictures that the set does not hold yet.
    pub async fn extend_dataset(&self, owner: &Owner, id: &DatasetId, mut items: Vec<NewItem>) -> Result<()> {
        let present = self.dataset(owner, id).await?;
        items.retain(|new| present.items.iter().all(|item| item.id != new.item.id));
        let together = present.items.len() + items.len();
        if together > limits::MAX_DATASET_PICTURES {
            let most = limits::MAX_DATASET_PICTURES;
            return Err(Error::Conflict(format!(
                "The set would hold {together} pictures; at most {most} are allowed. 5 to 30 are enough for a style."
            )));
        }
        self.put_items(id, &items).await?;
        let mut tx = self.db.begin().await?;
        insert_items(&mut tx, id, &items).await?;
        Ok(tx.commit().await?)
    }

    async fn put_items(&self, dataset: &DatasetId, items: &[NewItem]) -> Result<()> {
        for NewItem { item, extension, file, thumb, .. } in items {
            self.blobs.put(&BlobKey::dataset_item(dataset, &item.id, extension), tokio::fs::read(file).await?).await?;
            self.blobs.put(&BlobKey::dataset_thumb(dataset, &item.id), thumb.clone()).await?;
        }
        Ok(())
    }

    pub async fn datasets(&self, owner: &Owner) -> Result<Vec<DatasetInfo>> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM datasets ");
        owner.push_listed(&mut query);
        let rows: Vec<Row> = query.push(" ORDER BY id DESC LIMIT 500").build_query_as().fetch_all(&self.db).await?;
        let mut sets = Vec::with_capacity(rows.len());
        for row in rows {
            sets.push(self.with_items(row).await?);
        }
        Ok(sets)
    }

    pub async fn dataset(&self, owner: &Owner, id: &DatasetId) -> Result<DatasetInfo> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM datasets WHERE id = ");
        query.push_bind(id.0.clone());
        owner.push_reached(&mut query);
        let row: Option<Row> = query.build_query_as().fetch_optional(&self.db).await?;
        self.with_items(row.ok_or_else(|| Error::not_found("style set", id))?).await
    }

    async fn with_items(&self, row: Row) -> Result<DatasetInfo> {
        let items = self.item_rows(&row.id).await?.into_iter().map(DatasetItem::from).collect();
        Ok(DatasetInfo { id: row.id.into(), name: row.name, trigger: row.trigger, items, created_at: row.created_at })
    }

    async fn item_rows(&self, dataset: &str) -> Result<Vec<ItemRow>> {
        let sql = "SELECT * FROM dataset_items WHERE dataset = ? ORDER BY file_name, id";
        Ok(sqlx::query_as(sql).bind(dataset).fetch_all(&self.db).await?)
    }

    /// Keys of a picture and its thumbnail, and the picture's extension.
    pub async fn item_files(&self, owner: &Owner, dataset: &DatasetId, item: &str) -> Result<(BlobKey, BlobKey, String)> {
        let sql = "SELECT extension FROM dataset_items JOIN datasets ON datasets.id = dataset
            WHERE dataset = ? AND (owner = ? OR ?) AND dataset_items.id = ?";
        let query = sqlx::query_scalar(sql).bind(&dataset.0).bind(owner.id()).bind(owner.reaches_all()).bind(item);
        let extension: Option<String> = query.fetch_optional(&self.db).await?;
        let extension = extension.ok_or_else(|| Error::not_found("picture", item))?;
        Ok((BlobKey::dataset_item(dataset, item, &extension), BlobKey::dataset_thumb(dataset, item), extension))
    }

    pub async fn set_caption(&self, owner: &Owner, dataset: &DatasetId, item: &str, caption: &str) -> Result<()> {
        self.item_files(owner, dataset, item).await?;
        let sql = "UPDATE dataset_items SET caption = ? WHERE dataset = ? AND id = ?";
        sqlx::query(sql).bind(caption).bind(&dataset.0).bind(item).execute(&self.db).await?;
        Ok(())
    }

    /// Remembers the trigger, and gives every item the caption that `caption` makes of its present one.
    pub async fn set_trigger(&self, owner: &Owner, id: &DatasetId, trigger: Option<&str>, caption: impl Fn(&str) -> String) -> Result<()> {
        let set = self.dataset(owner, id).await?;
        let mut tx = self.db.begin().await?;
        sqlx::query(r#"UPDATE datasets SET "trigger" = ? WHERE id = ?"#).bind(trigger).bind(&id.0).execute(&mut *tx).await?;
        for item in &set.items {
            sqlx::query("UPDATE dataset_items SET caption = ? WHERE dataset = ? AND id = ?")
                .bind(caption(&item.caption))
                .bind(&id.0)
                .bind(&item.id)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    pub async fn remove_item(&self, owner: &Owner, dataset: &DatasetId, item: &str) -> Result<()> {
        let (picture, thumb, _) = self.item_files(owner, dataset, item).await?;
        sqlx::query("DELETE FROM dataset_items WHERE dataset = ? AND id = ?").bind(&dataset.0).bind(item).execute(&self.db).await?;
        self.blobs.delete(&picture).await?;
        self.blobs.delete(&thumb).await
    }

    pub async fn delete_dataset(&self, owner: &Owner, id: &DatasetId) -> Result<()> {
        let query = sqlx::query("DELETE FROM datasets WHERE id = ? AND (owner = ? OR ?)").bind(&id.0);
        let deleted = query.bind(owner.id()).bind(owner.reaches_all()).execute(&self.db).await?;
        if deleted.rows_affected() == 0 {
            return Err(Error::not_found("style set", id));
        }
        Ok(tokio::fs::remove_dir_all(self.blobs.folder("datasets").join(&id.0)).await?)
    }

    /// Puts the set as it is now into a folder that a training may keep: later edits and deletes do not reach it.
    pub async fn snapshot_dataset(&self, id: &DatasetId, into: &Path) -> Result<()> {
        tokio::fs::create_dir_all(into).await?;
        let mut metadata = String::new();
        for item in self.item_rows(&id.0).await? {
            let name = format!("{}.{}", item.id, item.extension);
            let from = self.blobs.path(&BlobKey::dataset_item(id, &item.id, &item.extension))?;
            // A second name for the same bytes costs nothing; not every file system has them.
            if tokio::fs::hard_link(&from, into.join(&name)).await.is_err() {
                tokio::fs::copy(&from, into.join(&name)).await?;
            }
            metadata += &format!("{}\n", serde_json::json!({"file_name": name, "text": item.caption}));
        }
        Ok(tokio::fs::write(into.join("metadata.jsonl"), metadata).await?)
    }
}

async fn insert_items(tx: &mut Transaction<'_, Sqlite>, dataset: &DatasetId, items: &[NewItem]) -> Result<()> {
    for NewItem { item, extension, bytes, .. } in items {
        let sql =
            "INSERT INTO dataset_items (dataset, id, extension, file_name, caption, width, height, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        sqlx::query(sql)
            .bind(&dataset.0)
            .bind(&item.id)
            .bind(*extension)
            .bind(&item.file_name)
            .bind(&item.caption)
            .bind(item.width)
            .bind(item.height)
            .bind(*bytes as i64)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

impl From<ItemRow> for DatasetItem {
    fn from(row: ItemRow) -> Self {
        Self { id: row.id, file_name: row.file_name, caption: row.caption, width: row.width, height: row.height }
    }
}
