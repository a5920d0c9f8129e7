//! Where adapters were published, and which commit holds the newest version there.

use super::{Owner, Result, Store};
use app::api::{AdapterId, Publication};
use sqlx::FromRow;

#[derive(FromRow)]
struct Row {
    repo: String,
    url: String,
    commit: String,
    private: bool,
    published_at: i64,
}

impl Store {
    /// A new version takes the place of the one before in its repository.
    pub async fn save_publication(&self, owner: &Owner, adapter: &AdapterId, publication: &Publication) -> Result<()> {
        let sql = r#"INSERT OR REPLACE INTO publications (adapter, owner, repo, url, "commit", private, published_at) VALUES (?, ?, ?, ?, ?, ?, ?)"#;
        sqlx::query(sql)
            .bind(&adapter.0)
            .bind(owner.id())
            .bind(&publication.repo)
            .bind(&publication.url)
            .bind(&publication.commit)
            .bind(publication.private)
            .bind(publication.published_at)
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// Newest first.
    pub async fn publications(&self, owner: &Owner, adapter: &AdapterId) -> Result<Vec<Publication>> {
        let sql = r#"SELECT repo, url, "commit", private, published_at FROM publications WHERE adapter = ? AND (owner = ? OR ?) ORDER BY published_at DESC, repo"#;
        let query = sqlx::query_as(sql).bind(&adapter.0).bind(owner.id()).bind(owner.reaches_all());
        let rows: Vec<Row> = query.fetch_all(&self.db).await?;
        Ok(rows.into_iter().map(Publication::from).collect())
    }

    pub async fn forget_publication(&self, owner: &Owner, adapter: &AdapterId, repo: &str) -> Result<()> {
        let sql = "DELETE FROM publications WHERE adapter = ? AND (owner = ? OR ?) AND repo = ?";
        sqlx::query(sql).bind(&adapter.0).bind(owner.id()).bind(owner.reaches_all()).bind(repo).execute(&self.db).await?;
        Ok(())
    }
}

impl From<Row> for Publication {
    fn from(row: Row) -> Self {
        let Row { repo, url, commit, private, published_at } = row;
        Self { repo, url, commit, private, published_at }
    }
}
