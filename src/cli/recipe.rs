//! The recipe inside a PNG: everything that makes the same picture again.

use super::adapters::Used;
use engine::GenerateParams;
use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub struct PictureRecipe {
    pub prompt: String,
    pub model: String,
    pub width: usize,
    pub height: usize,
    pub steps: usize,
    pub guidance: f64,
    pub seed: u64,
    pub max_sequence_length: usize,
    pub adapters: Vec<Used>,
    /// The program and its version.
    pub software: String,
}

impl PictureRecipe {
    pub fn new(params: &GenerateParams, model: &str, adapters: &[Used]) -> Self {
        Self {
            prompt: params.prompt.clone(),
            model: model.to_owned(),
            width: params.size.width(),
            height: params.size.height(),
            steps: params.steps,
            guidance: params.guidance,
            seed: params.seed,
            max_sequence_length: params.max_sequence_length,
            adapters: adapters.to_vec(),
            software: concat!("Atelier ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}
