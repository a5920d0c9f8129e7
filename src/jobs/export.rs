//! An adapter as a file for another program.

use super::{
    Jobs,
    error::{Result, blocking},
};
use crate::store::{self, adapters::AdapterFile};
use engine::{Adapter, Device, adapter::Target};
use std::{
    fs::{self, File},
    io::{Seek, Write},
};

impl Jobs {
    /// Read, written for `program`, and read back, a few at a time; a nameless file, so that nothing is held for whoever reads it slowly.
    pub async fn export(&self, adapter: AdapterFile, program: &str) -> Result<File> {
        let target: Target = program.parse()?;
        let _turn = self.reading.acquire().await;
        let scratch = self.store.incoming()?;
        blocking(move || {
            let bytes = fs::read(&adapter.path).map_err(store::Error::from)?;
            let exported = Adapter::from_bytes(&adapter.name, &bytes, &Device::Cpu)?.export(target)?.bytes;
            let kept = tempfile::tempfile_in(scratch.path()).and_then(|mut file| {
                file.write_all(&exported)?;
                file.rewind()?;
                Ok(file)
            });
            Ok(kept.map_err(store::Error::from)?)
        })
        .await
    }
}
