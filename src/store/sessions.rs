//! Sessions of people who signed in. The browser holds a key; only its hash is kept.

use super::{Result, Store, now, secret, users::User};
use sqlx::FromRow;
use std::fmt;

/// What a browser shows to be recognised: 256 random bits.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey(String);

/// Opened and not yet over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub user: User,
    /// The sign-in that it came from.
    pub sign_in: String,
    /// The host looks at everybody's work.
    pub everyone: bool,
}

/// Browsers that one person is signed in with; the oldest gives way.
const MOST: u32 = 20;

#[derive(FromRow)]
struct Row {
    #[sqlx(flatten)]
    user: User,
    sign_in: String,
    everyone: bool,
}

impl Store {
    /// A session with a key that was never used before, for `seconds`.
    pub async fn open_session(&self, user: &str, sign_in: &str, seconds: i64) -> Result<SessionKey> {
        let key = SessionKey::random();
        let mut tx = self.db.begin().await?;
        sqlx::query("DELETE FROM sessions WHERE expires_at <= ?").bind(now()).execute(&mut *tx).await?;
        sqlx::query("INSERT INTO sessions (id, user, sign_in, expires_at) VALUES (?, ?, ?, ?)")
            .bind(key.hash())
            .bind(user)
            .bind(sign_in)
            .bind(now() + seconds)
            .execute(&mut *tx)
            .await?;
        let sql =
            "DELETE FROM sessions WHERE user = ?1 AND id NOT IN (SELECT id FROM sessions WHERE user = ?1 ORDER BY rowid DESC LIMIT ?2)";
        sqlx::query(sql).bind(user).bind(MOST).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(key)
    }

    pub async fn session(&self, key: &SessionKey) -> Result<Option<Session>> {
        let sql = "SELECT users.id, username, name, sign_in, everyone FROM sessions JOIN users ON users.id = user
            WHERE sessions.id = ? AND expires_at > ?";
        let row: Option<Row> = sqlx::query_as(sql).bind(key.hash()).bind(now()).fetch_optional(&self.db).await?;
        Ok(row.map(|Row { user, sign_in, everyone }| Session { user, sign_in, everyone }))
    }

    /// Every session of a sign-in is over.
    pub async fn end_sign_in(&self, sign_in: &str) -> Result<()> {
        sqlx::query("DELETE FROM sessions WHERE sign_in = ?").bind(sign_in).execute(&self.db).await?;
        Ok(())
    }

    /// Whether lists hold everybody's work; for the host alone, which the caller knows.
    pub async fn look_at_everyone(&self, sign_in: &str, everyone: bool) -> Result<()> {
        sqlx::query("UPDATE sessions SET everyone = ? WHERE sign_in = ?").bind(everyone).bind(sign_in).execute(&self.db).await?;
        Ok(())
    }
}

impl SessionKey {
    fn random() -> Self {
        Self(secret::random())
    }

    /// As it came from a browser.
    pub fn from_browser(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// For the browser alone.
    pub fn secret(&self) -> &str {
        &self.0
    }

    fn hash(&self) -> String {
        secret::hash(&self.0)
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_session_ends_by_itself_or_with_its_sign_in_and_only_hashes_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let ada = User { id: "64ada".into(), username: "ada".into(), name: "Ada".into() };
        store.save_user(&ada).await.unwrap();
        let (tab, frame) = (store.open_session(&ada.id, "one", 60).await.unwrap(), store.open_session(&ada.id, "one", 60).await.unwrap());
        let (other, over) = (store.open_session(&ada.id, "two", 60).await.unwrap(), store.open_session(&ada.id, "three", 0).await.unwrap());
        store.save_user(&User { username: "lovelace".into(), ..ada.clone() }).await.unwrap();
        assert_eq!(store.session(&tab).await.unwrap().unwrap().user.username, "lovelace");
        assert_eq!(store.session(&over).await.unwrap(), None);
        assert_eq!(store.session(&SessionKey::from_browser(&tab.hash())).await.unwrap(), None, "what is kept opens nothing");
        store.look_at_everyone("one", true).await.unwrap();
        let looks = async |key: &SessionKey| store.session(key).await.unwrap().unwrap().everyone;
        assert!(looks(&frame).await && !looks(&other).await);
        store.end_sign_in("one").await.unwrap();
        assert!(store.session(&tab).await.unwrap().is_none() && store.session(&frame).await.unwrap().is_none());
        assert!(store.session(&other).await.unwrap().is_some());
        for i in 0..MOST {
            store.open_session(&ada.id, &i.to_string(), 60).await.unwrap();
        }
        assert!(store.session(&other).await.unwrap().is_none(), "the oldest gives way");
    }
}
