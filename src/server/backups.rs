//! Copies of the store while the server runs, and the start from one.

use super::{CannotStart, door::Door, metrics::Backups};
use crate::{
    config::BackupSettings,
    store::{
        Store,
        backup::{self, Backup},
    },
};
use std::{path::Path, time::Duration};

/// Made now and then, and once more at the end.
#[derive(Clone)]
pub struct Copies {
    backup: Backup,
    counted: Backups,
}

impl Copies {
    /// As long as the process lives.
    pub fn keep(store: Store, settings: &BackupSettings, counted: Backups) -> Self {
        let copies = Self { backup: Backup::new(store, &settings.folder), counted };
        tokio::spawn(copies.clone().every(settings.every));
        copies
    }

    async fn every(self, pause: Duration) {
        loop {
            tokio::time::sleep(pause).await;
            self.write().await;
        }
    }

    pub async fn write(&self) {
        match self.backup.write().await {
            Ok(copied) => {
                tracing::debug!(?copied, "the store was copied");
                self.counted.done();
            }
            Err(error) => {
                tracing::error!("the store could not be copied: {error}");
                self.counted.failed.inc();
            }
        }
    }
}

/// Fills an empty data folder from its backup; the door tells how far that is.
pub async fn restore(data: &Path, folder: &Path, door: &Door) -> Result<(), CannotStart> {
    let told = door.clone();
    let restored = backup::restore(data, folder, move |done, total| told.restoring(done, total)).await;
    match restored.map_err(|error| CannotStart(format!("the backup in {} cannot be read: {error}", folder.display())))? {
        true => tracing::info!("the store goes on from its backup in {}", folder.display()),
        false => tracing::info!("the store is copied to {}", folder.display()),
    }
    Ok(())
}
