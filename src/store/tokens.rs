//! Tokens of the HTTP API: random, told once, kept as a hash. The command line opens them beside a running server.

use super::{DATABASE, Error, Result, Store, migrate, new_id, now, open_database, secret};
use serde::Serialize;
use sqlx::{FromRow, SqlitePool};
use std::path::Path;

/// What is kept of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenHash(String);

impl TokenHash {
    pub fn of(token: &str) -> Self {
        Self(secret::hash(token))
    }
}

/// A token as its owner sees it afterwards. Times are seconds since 1970.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct ApiToken {
    pub id: String,
    pub name: String,
    pub created_at: i64,
    pub used_at: Option<i64>,
}

#[derive(Clone)]
pub struct ApiTokens {
    db: SqlitePool,
}

impl Store {
    pub fn api_tokens(&self) -> ApiTokens {
        ApiTokens { db: self.db.clone() }
    }
}

impl ApiTokens {
    /// Those of a data folder, which another process may be serving. Makes none: an empty one is yet to be filled from its backup.
    pub async fn open(folder: &Path) -> Result<Self> {
        if !folder.join(DATABASE).is_file() {
            let folder = folder.display();
            return Err(Error::Conflict(format!(
                "there is no studio in {folder} yet; start `atelier serve` there first, or name another with --data-dir"
            )));
        }
        let db = open_database(&folder.join(DATABASE)).await?;
        migrate(&db).await?;
        Ok(Self { db })
    }

    /// Makes one, and returns what whoever holds it shows: `atelier_…`, which nobody can read here again.
    pub async fn create(&self, name: &str) -> Result<String> {
        let token = format!("atelier_{}", secret::random());
        let sql = "INSERT INTO api_tokens (id, name, hash, created_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING";
        let made = sqlx::query(sql).bind(new_id::<String>()).bind(name).bind(TokenHash::of(&token).0).bind(now()).execute(&self.db).await?;
        match made.rows_affected() {
            0 => Err(Error::Conflict(format!("There is a token called {name:?} already; revoke it first, or choose another name."))),
            _ => Ok(token),
        }
    }

    /// Newest first.
    pub async fn list(&self) -> Result<Vec<ApiToken>> {
        Ok(sqlx::query_as("SELECT id, name, created_at, used_at FROM api_tokens ORDER BY id DESC").fetch_all(&self.db).await?)
    }

    /// From here on it opens nothing.
    pub async fn revoke(&self, name: &str) -> Result<()> {
        match sqlx::query("DELETE FROM api_tokens WHERE name = ?").bind(name).execute(&self.db).await?.rows_affected() {
            0 => Err(Error::not_found("token", name)),
            _ => Ok(()),
        }
    }

    pub async fn is_empty(&self) -> Result<bool> {
        Ok(!sqlx::query_scalar::<_, bool>("SELECT EXISTS (SELECT 1 FROM api_tokens)").fetch_one(&self.db).await?)
    }

    /// Whether it opens the API; remembers that it was used.
    pub async fn admits(&self, hash: &TokenHash) -> Result<bool> {
        const MINUTE: i64 = 60;
        let sql = "SELECT coalesce(used_at, 0) FROM api_tokens WHERE hash = ?";
        let Some(used_at) = sqlx::query_scalar::<_, i64>(sql).bind(&hash.0).fetch_optional(&self.db).await? else { return Ok(false) };
        if now() - used_at >= MINUTE {
            sqlx::query("UPDATE api_tokens SET used_at = ? WHERE hash = ?").bind(now()).bind(&hash.0).execute(&self.db).await?;
        }
        Ok(true)
    }
}
