//! An adapter as a file for another program.

use super::error::{Result, blocking};
use engine::{Adapter, Device, adapter::Target};

/// Read, written for `program`, and read back.
pub async fn adapter(name: String, bytes: Vec<u8>, program: &str) -> Result<Vec<u8>> {
    let target: Target = program.parse()?;
    blocking(move || Ok(Adapter::from_bytes(&name, &bytes, &Device::Cpu)?.export(target)?.bytes)).await
}
