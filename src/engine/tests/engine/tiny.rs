//! The tiny model of `tests/fixtures/formats`, and the one call of it that every file there was tried with.

use crate::fixtures::{Call, File};
use candle_core::{Device, Tensor};
use engine::{AdapterSet, Precision, Size, transformer::Transformer};
use std::{path::PathBuf, sync::OnceLock};

pub const FORMATS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/formats");

pub fn path(name: &str) -> PathBuf {
    PathBuf::from(FORMATS).join(name)
}

pub fn file(name: &str) -> File {
    File::at(&path(name))
}

pub fn call() -> Call {
    Call::read(&file("adapters/call.safetensors"), "hidden_states", Size::new(64, 48).unwrap())
}

pub fn transformer() -> &'static Transformer {
    static TRANSFORMER: OnceLock<Transformer> = OnceLock::new();
    TRANSFORMER.get_or_init(|| Transformer::load(&path("models/diffusers"), &Device::Cpu, Precision::F32).unwrap())
}

pub fn velocity(transformer: &Transformer, adapters: &AdapterSet) -> Tensor {
    let call = call();
    transformer.forward(&call.latents, &call.step(), adapters).unwrap()
}
