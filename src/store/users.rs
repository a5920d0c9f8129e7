//! People who signed in.

use super::{Result, Store, now};
use sqlx::FromRow;

#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct User {
    /// The provider's, for ever.
    pub id: String,
    /// As it was at the last sign-in: people may change it.
    pub username: String,
    /// How they want to be called.
    pub name: String,
}

impl Store {
    /// A new one, or one who comes again, perhaps under another name.
    pub async fn save_user(&self, user: &User) -> Result<()> {
        let sql = "INSERT INTO users (id, username, name, created_at, seen_at) VALUES (?1, ?2, ?3, ?4, ?4)
            ON CONFLICT (id) DO UPDATE SET username = excluded.username, name = excluded.name, seen_at = excluded.seen_at";
        sqlx::query(sql).bind(&user.id).bind(&user.username).bind(&user.name).bind(now()).execute(&self.db).await?;
        Ok(())
    }
}
