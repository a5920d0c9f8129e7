//! Files by key: temporary file, fsync, rename, fsync of the folder. The key alone decides the path.

use super::{Error, Result};
use app::api::{AdapterId, DatasetId, PictureId};
use object_store::{ObjectStoreExt, PutPayload, local::LocalFileSystem, path::Path as Location};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Names a file. Made only from ids that a row confirmed, so that no visitor's text becomes a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobKey(Location);

impl BlobKey {
    pub fn picture(id: &PictureId) -> Self {
        Self(Location::from_iter(["pictures", &format!("{id}.png")]))
    }

    pub fn picture_thumb(id: &PictureId) -> Self {
        Self(Location::from_iter(["pictures", &format!("{id}.thumb.jpg")]))
    }

    /// `item` is the SHA-256 of the file.
    pub fn dataset_item(dataset: &DatasetId, item: &str, extension: &str) -> Self {
        Self(Location::from_iter(["datasets", &dataset.0, &format!("{item}.{extension}")]))
    }

    pub fn dataset_thumb(dataset: &DatasetId, item: &str) -> Self {
        Self(Location::from_iter(["datasets", &dataset.0, &format!("{item}.thumb.jpg")]))
    }

    /// A version of its own for each checkpoint: a reader of the one before is not disturbed.
    pub fn adapter(id: &AdapterId, version: i64) -> Self {
        Self(Location::from_iter(["adapters", &format!("{id}-{version}.safetensors")]))
    }
}

#[derive(Clone)]
pub struct Blobs {
    store: Arc<LocalFileSystem>,
    folder: PathBuf,
}

impl Blobs {
    pub fn open(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let store = LocalFileSystem::new_with_prefix(folder)?.with_automatic_cleanup(true).with_fsync(true);
        Ok(Self { store: Arc::new(store), folder: folder.to_owned() })
    }

    /// The folder of one kind of blob.
    pub fn folder(&self, kind: &str) -> PathBuf {
        self.folder.join(kind)
    }

    /// Whole or not at all.
    pub async fn put(&self, key: &BlobKey, bytes: impl Into<PutPayload>) -> Result<()> {
        self.store.put(&key.0, bytes.into()).await?;
        Ok(())
    }

    pub async fn get(&self, key: &BlobKey) -> Result<Vec<u8>> {
        match self.store.get(&key.0).await {
            Ok(found) => Ok(found.bytes().await?.into()),
            Err(object_store::Error::NotFound { .. }) => Err(Error::not_found("file", &key.0)),
            Err(error) => Err(error.into()),
        }
    }

    /// Deleting what is gone already is no error.
    pub async fn delete(&self, key: &BlobKey) -> Result<()> {
        match self.store.delete(&key.0).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// For readers that want a file: the device, a training.
    pub fn path(&self, key: &BlobKey) -> Result<PathBuf> {
        Ok(self.store.path_to_filesystem(&key.0)?)
    }
}
