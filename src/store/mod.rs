//! What outlives the process: rows in SQLite, files beside it. A row is written after its files and deleted before them.

pub mod adapters;
pub mod backup;
pub mod blob;
pub mod comparisons;
pub mod datasets;
pub mod error;
mod owner;
pub mod pictures;
pub mod png;
pub mod publications;
pub mod runs;
mod secret;
pub mod sessions;
pub mod thumbnail;
pub mod tokens;
pub mod trainings;
pub mod usage;
pub mod users;

pub use blob::{BlobKey, Blobs};
pub use error::{Error, Result};
pub use owner::Owner;
pub use runs::{Claim, Claimed};
pub use sessions::SessionKey;

use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

#[derive(Clone)]
pub struct Store {
    db: SqlitePool,
    pub blobs: Blobs,
    folder: PathBuf,
    /// Held as long as any clone lives: two processes on one folder would run every job twice.
    _lock: Arc<File>,
}

impl Store {
    /// Opens or creates a data folder, and removes what an interrupted process left half-written.
    pub async fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        let lock = lock(&folder)?;
        let db = open_database(&folder.join(DATABASE)).await?;
        migrate(&db).await?;
        let blobs = Blobs::open(&folder.join("blobs"))?;
        let store = Self { db, blobs, folder, _lock: Arc::new(lock) };
        store.sweep().await?;
        Ok(store)
    }

    /// The queue's own file: apalis and Atelier would read each other's migrations as their own in one.
    pub async fn open_queue(&self) -> Result<SqlitePool> {
        open_database(&self.folder.join("queue.db")).await
    }

    /// Where a training keeps its state: `dataset/` as it was when it began, and the trainer's own folder.
    pub fn run_folder(&self, run: &app::api::RunId) -> PathBuf {
        self.folder.join("runs").join(&run.0)
    }

    /// How much of what is kept.
    pub async fn count_rows(&self) -> Result<[(&'static str, i64); 4]> {
        let sql = "SELECT (SELECT count(*) FROM pictures), (SELECT count(*) FROM datasets), (SELECT count(*) FROM adapters),
            (SELECT count(*) FROM comparisons)";
        let (pictures, datasets, adapters, comparisons) = sqlx::query_as(sql).fetch_one(&self.db).await?;
        Ok([("pictures", pictures), ("datasets", datasets), ("adapters", adapters), ("comparisons", comparisons)])
    }

    /// A folder for an upload in the making; gone when dropped.
    pub fn incoming(&self) -> Result<tempfile::TempDir> {
        let parent = self.folder.join("incoming");
        fs::create_dir_all(&parent)?;
        Ok(tempfile::tempdir_in(parent)?)
    }

    /// Files without a row: an upload that was cut off, a delete that was interrupted after its row, a training without an adapter.
    async fn sweep(&self) -> Result<()> {
        match fs::remove_dir_all(self.folder.join("incoming")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let tables = [
            ("runs WHERE state IN ('queued', 'running') OR id IN (SELECT run FROM adapters)", self.folder.join("runs")),
            ("pictures", self.blobs.folder("pictures")),
            ("datasets", self.blobs.folder("datasets")),
            ("adapters", self.blobs.folder("adapters")),
        ];
        for (table, folder) in tables {
            self.sweep_folder(table, &folder).await?;
        }
        Ok(())
    }

    async fn sweep_folder(&self, rows: &'static str, folder: &Path) -> Result<()> {
        let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
        let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new("SELECT id FROM ");
        let known: std::collections::HashSet<String> =
            query.push(rows).build_query_scalar().fetch_all(&self.db).await?.into_iter().collect();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let id = name.split(['.', '-']).next().unwrap_or_default();
            if !known.contains(id) {
                tracing::info!(rows, name, "removing a leftover");
                let path = entry.path();
                if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
            }
        }
        Ok(())
    }
}

const DATABASE: &str = "atelier.db";

async fn migrate(db: &SqlitePool) -> Result<()> {
    Ok(sqlx::migrate!("src/store/migrations").run(db).await?)
}

/// WAL: readers never wait for the writer. FULL: a row that was answered for survives a power cut.
async fn open_database(file: &Path) -> Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(10))
        .foreign_keys(true);
    Ok(SqlitePoolOptions::new().max_connections(8).connect_with(options).await?)
}

fn lock(folder: &Path) -> Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(folder.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Conflict(format!(
            "another Atelier is working in {}; stop it, or give this one a folder of its own with --data-dir",
            folder.display()
        ))),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// A name of ours for a new thing: later ones sort after earlier ones.
pub fn new_id<T: From<String>>() -> T {
    uuid::Uuid::now_v7().simple().to_string().into()
}

/// Seconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs() as i64)
}
