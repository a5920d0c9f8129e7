//! The model and the reference tensors, and how near is near enough.

use candle_core::{DType, Device, Tensor};
use engine::{Pipeline, Result, Size, latents::PackedLatents, text_encoder::Conditioning, transformer::Step};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::OnceLock,
};

pub const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/flux-mini");
pub const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/flux-mini");

pub fn pipeline() -> &'static Pipeline {
    static PIPELINE: OnceLock<Pipeline> = OnceLock::new();
    PIPELINE.get_or_init(|| Pipeline::load(Path::new(MODEL), &Device::Cpu).unwrap())
}

pub fn path(name: &str) -> PathBuf {
    Path::new(FIXTURES).join(name)
}

pub fn meta() -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path("meta.json")).unwrap()).unwrap()
}

/// One fixture file.
pub struct File(HashMap<String, Tensor>);

impl File {
    pub fn read(name: &str) -> Self {
        Self::at(&path(name))
    }

    pub fn at(path: &Path) -> Self {
        Self(candle_core::safetensors::load(path, &Device::Cpu).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }

    pub fn get(&self, key: &str) -> Tensor {
        self.0.get(key).unwrap_or_else(|| panic!("fixture without {key}")).clone()
    }

    /// The part of every key behind `prefix`, with its tensor.
    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Tensor)> {
        self.0.iter().filter_map(move |(key, tensor)| Some((key.strip_prefix(prefix)?, tensor)))
    }

    pub fn number(&self, key: &str) -> f64 {
        f64::from(self.get(key).flatten_all().unwrap().get(0).unwrap().to_scalar::<f32>().unwrap())
    }

    pub fn conditioning(&self) -> Conditioning {
        Conditioning { pooled: self.get("pooled_projections"), tokens: self.get("encoder_hidden_states") }
    }
}

/// The inputs of one transformer call, owned.
pub struct Call {
    pub latents: PackedLatents,
    pub conditioning: Conditioning,
    pub size: Size,
    pub sigma: Vec<f64>,
    pub guidance: Vec<f64>,
}

impl Call {
    pub fn read(file: &File, latents: &str, size: Size) -> Self {
        let (sigma, guidance) = (vec![file.number("timestep")], vec![file.number("guidance")]);
        Self { latents: PackedLatents(file.get(latents)), conditioning: file.conditioning(), size, sigma, guidance }
    }

    pub fn step(&self) -> Step<'_> {
        Step { size: self.size, conditioning: &self.conditioning, sigma: &self.sigma, guidance: &self.guidance, modulations: None }
    }
}

pub fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

pub fn cosine(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (values(a), values(b));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
}

/// |a - b| / |b|
pub fn relative_error(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (values(a), values(b));
    let difference: f64 = a.iter().zip(&b).map(|(x, y)| (x - y).powi(2)).sum();
    (difference / b.iter().map(|y| y * y).sum::<f64>()).sqrt()
}

#[track_caller]
pub fn assert_cosine(what: &str, ours: &Tensor, reference: &Tensor, least: f64) {
    let cosine = cosine(ours, reference);
    println!("{what}: 1 - cosine {:.2e}, relative error {:.2e}", 1.0 - cosine, relative_error(ours, reference));
    assert!(cosine >= least, "{what}: cosine {cosine} < {least}");
}

#[track_caller]
pub fn assert_near(what: &str, ours: &Tensor, reference: &Tensor, most: f64) {
    let error = relative_error(ours, reference);
    assert!(error <= most, "{what}: relative error {error:e} > {most:e}");
}

/// The sentence of an error.
#[track_caller]
pub fn refusal<T>(result: Result<T>) -> String {
    result.err().expect("this must be refused").to_string()
}
