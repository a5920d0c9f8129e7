//! The store in a second folder, such as a mounted bucket, from which a new machine goes on: files first, then a snapshot of the
//! database, then what is gone. Such a folder may know neither locks nor writes in the middle of a file, so no database is opened there.

use super::{DATABASE, Error, Result, Store, new_id};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};
use tokio::sync::Mutex;

/// Folders that travel, below the data folder. The queue is made anew at every start, uploads in the making are not worth it.
const FOLDERS: [&str; 2] = ["blobs", "runs"];
/// Tells whose backup a folder holds.
const IDENTITY: &str = "store-id";

/// A store with the folder that it is copied to.
#[derive(Clone)]
pub struct Backup {
    store: Store,
    folder: PathBuf,
    /// One copy at a time.
    turn: Arc<Mutex<()>>,
}

/// What a copy changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    pub files: usize,
    pub bytes: u64,
    pub deleted: usize,
}

impl Backup {
    pub fn new(store: Store, folder: &Path) -> Self {
        Self { store, folder: folder.to_owned(), turn: Arc::default() }
    }

    /// Brings the folder up to date. Whenever it is cut off, the folder holds a whole backup: this one or the one before.
    pub async fn write(&self) -> Result<Copied> {
        let _turn = self.turn.lock().await;
        let scratch = self.store.incoming()?;
        let snapshot = scratch.path().join(DATABASE);
        self.store.write_snapshot(&snapshot).await?;
        let (data, folder) = (self.store.folder.clone(), self.folder.clone());
        blocking(move || mirror(&data, &snapshot, &folder)).await
    }
}

/// Fills a data folder that holds no database from a backup, if there is one; returns whether it did. `tell` hears (done, total) bytes.
pub async fn restore(data: &Path, backup: &Path, tell: impl Fn(u64, u64) + Send + 'static) -> Result<bool> {
    let (data, backup) = (data.to_owned(), backup.to_owned());
    blocking(move || {
        if data.join(DATABASE).exists() || !backup.join(DATABASE).is_file() {
            return Ok(false);
        }
        let files = files(&backup)?;
        let last = backup.join(DATABASE);
        let total = files.values().map(|file| file.bytes).sum::<u64>() + last.metadata()?.len();
        let mut done = 0;
        for (path, file) in &files {
            copy(&backup.join(path), &data.join(path))?;
            // As old as its copy, which is up to date then.
            File::options().write(true).open(data.join(path))?.set_modified(file.changed)?;
            done += file.bytes;
            tell(done, total);
        }
        copy(&backup.join(IDENTITY), &data.join(IDENTITY))?;
        // The last: without it, an interrupted restore begins again.
        copy(&last, &data.join(DATABASE))?;
        tell(total, total);
        Ok(true)
    })
    .await
}

impl Store {
    /// The whole database as it is at this moment, in one file.
    async fn write_snapshot(&self, file: &Path) -> Result<()> {
        sqlx::query("VACUUM INTO ?").bind(file.to_string_lossy().into_owned()).execute(&self.db).await?;
        Ok(())
    }
}

fn mirror(data: &Path, snapshot: &Path, folder: &Path) -> Result<Copied> {
    fs::create_dir_all(folder)?;
    claim(data, folder)?;
    let (here, there) = (files(data)?, files(folder)?);
    let mut copied = Copied::default();
    for (path, file) in here.iter().filter(|(path, file)| there.get(*path).is_none_or(|copy| copy.is_outdated_by(file))) {
        // What was deleted meanwhile is missing from the next snapshot too.
        match copy(&data.join(path), &folder.join(path)) {
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::NotFound => continue,
            outcome => outcome?,
        }
        (copied.files, copied.bytes) = (copied.files + 1, copied.bytes + file.bytes);
    }
    copy(snapshot, &folder.join(DATABASE))?;
    for path in there.keys().filter(|path| !here.contains_key(*path)) {
        fs::remove_file(folder.join(path))?;
        copied.deleted += 1;
    }
    Ok(copied)
}

/// Refuses to write over the backup of another store: a bucket that was mounted too late must not lose what it holds.
fn claim(data: &Path, folder: &Path) -> Result<()> {
    let own = match fs::read_to_string(data.join(IDENTITY)) {
        Ok(own) => own,
        Err(_) => {
            let own: String = new_id();
            fs::write(data.join(IDENTITY), &own)?;
            own
        }
    };
    match fs::read_to_string(folder.join(IDENTITY)) {
        Ok(theirs) if theirs == own => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.join(DATABASE).exists() => {
            copy(&data.join(IDENTITY), &folder.join(IDENTITY))
        }
        Ok(_) | Err(_) => Err(Error::Conflict(format!(
            "{} holds the backup of another Atelier, so nothing was written there; name an empty folder, or start with an empty data folder to go on from that backup",
            folder.display()
        ))),
    }
}

struct Found {
    bytes: u64,
    changed: SystemTime,
}

impl Found {
    fn is_outdated_by(&self, source: &Self) -> bool {
        self.bytes != source.bytes || source.changed > self.changed
    }
}

/// Every file that travels, by its path below `root`. Hidden ones and parts are in the making.
fn files(root: &Path) -> Result<BTreeMap<PathBuf, Found>> {
    let mut found = BTreeMap::new();
    let mut open: Vec<PathBuf> = FOLDERS.iter().map(|name| root.join(name)).filter(|folder| folder.is_dir()).collect();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (name, path) = (entry.file_name(), entry.path());
            // It may have gone since it was listed.
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() && !name.to_string_lossy().starts_with('.') {
                open.push(path);
            } else if about.is_file() && !is_unfinished(&name.to_string_lossy()) {
                let below = path.strip_prefix(root).unwrap_or(&path).to_owned();
                found.insert(below, Found { bytes: about.len(), changed: about.modified()? });
            }
        }
    }
    Ok(found)
}

/// `object_store` writes `NAME#1`, the trainer `.tmp…`, this module `NAME.part`.
fn is_unfinished(name: &str) -> bool {
    name.starts_with('.') || name.contains('#') || name.ends_with(".part")
}

/// Whole or not at all. Where a folder cannot rename, the file is written under its own name, which closing makes whole.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    write(from, Path::new(&part))?;
    if fs::rename(&part, to).is_err() {
        write(from, to)?;
        fs::remove_file(&part).ok();
    }
    Ok(())
}

fn write(from: &Path, to: &Path) -> Result<()> {
    let mut file = File::create(to)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    Ok(file.sync_all()?)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Error::Io(io::Error::other(error))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::BlobKey;

    async fn store(folder: &Path) -> Store {
        Store::open(folder).await.unwrap()
    }

    fn put(store: &Store, path: &str, bytes: &[u8]) {
        let path = store.folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[tokio::test]
    async fn a_store_goes_on_from_its_backup_and_only_changes_are_copied() {
        let (home, bucket, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = store(home.path()).await;
        store.api_tokens().create("ci").await.unwrap();
        put(&store, "blobs/adapters/a-1.safetensors", &[7; 5000]);
        put(&store, "runs/r/training/checkpoints/.writing-x/state.json", b"half");
        let backup = Backup::new(store.clone(), bucket.path());
        assert_eq!(backup.write().await.unwrap(), Copied { files: 1, bytes: 5000, deleted: 0 });
        assert_eq!(backup.write().await.unwrap(), Copied::default());

        put(&store, "blobs/adapters/a-2.safetensors", &[8; 6000]);
        store.blobs.delete(&BlobKey::adapter(&"a".to_owned().into(), 1)).await.unwrap();
        assert_eq!(backup.write().await.unwrap(), Copied { files: 1, bytes: 6000, deleted: 1 });

        let data = elsewhere.path().join("data");
        assert!(restore(&data, bucket.path(), |done, total| assert!(done <= total && total > 6000)).await.unwrap());
        assert!(!restore(&data, bucket.path(), |_, _| {}).await.unwrap(), "what is there stays");
        assert_eq!(fs::read(data.join("blobs/adapters/a-2.safetensors")).unwrap(), [8; 6000]);
        assert!(!data.join("runs").exists());
        let changed = |root: &Path| root.join("blobs/adapters/a-2.safetensors").metadata().unwrap().modified().unwrap();
        assert_eq!(changed(&data), changed(bucket.path()), "what was restored is as old as its copy, and not copied back");
        let again = super::tests::store(&data).await;
        assert_eq!(again.api_tokens().list().await.unwrap()[0].name, "ci");
        // The restored store owns the backup and goes on with it; opening it swept the adapter that no row knows.
        assert_eq!(Backup::new(again, bucket.path()).write().await.unwrap(), Copied { files: 0, bytes: 0, deleted: 1 });
    }

    #[tokio::test]
    async fn the_backup_of_another_store_is_not_written_over() {
        let (one, two, bucket) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Backup::new(store(one.path()).await, bucket.path()).write().await.unwrap();
        let before = fs::read(bucket.path().join(DATABASE)).unwrap();
        let error = Backup::new(store(two.path()).await, bucket.path()).write().await.unwrap_err();
        assert!(error.to_string().contains("another Atelier"), "{error}");
        assert_eq!(fs::read(bucket.path().join(DATABASE)).unwrap(), before);
    }

    #[tokio::test]
    async fn a_backup_that_was_cut_off_is_the_one_before() {
        let (home, bucket, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = store(home.path()).await;
        let backup = Backup::new(store.clone(), bucket.path());
        backup.write().await.unwrap();
        // What a kill leaves: new files, a database half-written, nothing deleted.
        fs::create_dir_all(bucket.path().join("blobs/pictures")).unwrap();
        fs::write(bucket.path().join("blobs/pictures/p.png.part"), b"half").unwrap();
        fs::write(bucket.path().join("atelier.db.part"), b"half").unwrap();
        let data = elsewhere.path().join("data");
        assert!(restore(&data, bucket.path(), |_, _| {}).await.unwrap());
        assert!(super::tests::store(&data).await.api_tokens().is_empty().await.unwrap());
        assert!(!data.join("blobs/pictures/p.png.part").exists());
    }
}
