//! Sample pictures at checkpoints: the recipe's prompts with the adapter so far, always from the same noise.

use crate::{Recipe, Result};
use engine::{Adapter, GenerateParams, Generation, Pipeline};
use image::RgbImage;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The samples still to be made for one step, and the one in the making.
pub struct Samples {
    pub step: usize,
    adapter: Arc<Adapter>,
    folder: PathBuf,
    /// Indices into the recipe's prompts.
    left: Vec<usize>,
    current: Option<Generation>,
}

/// What one denoising step led to.
pub enum Progress {
    Denoised { done: usize },
    Picture { path: PathBuf, picture: RgbImage },
}

impl Samples {
    /// Those of the recipe's prompts that have no picture for this step yet; `None` when all have.
    pub fn missing(recipe: &Recipe, run: &Path, step: usize, adapter: impl FnOnce() -> Result<Adapter>) -> Result<Option<Self>> {
        let folder = run.join("samples");
        let mut left: Vec<_> = (0..recipe.sample_prompts.len()).filter(|&index| !path(&folder, step, index).exists()).collect();
        if left.is_empty() {
            return Ok(None);
        }
        left.reverse();
        std::fs::create_dir_all(&folder)?;
        Ok(Some(Self { step, adapter: Arc::new(adapter()?), folder, left, current: None }))
    }

    /// The index of the prompt that is next or in the making; `None` when nothing is left.
    pub fn prompt(&self) -> Option<usize> {
        self.left.last().copied()
    }

    /// One denoising step of picture `index`.
    pub fn advance(&mut self, pipeline: &Pipeline, recipe: &Recipe, index: usize) -> Result<Progress> {
        let mut generation = match self.current.take() {
            Some(generation) => generation,
            None => pipeline.start(self.params(recipe, index))?,
        };
        generation.step(pipeline)?;
        if !generation.is_finished() {
            let done = generation.done();
            self.current = Some(generation);
            return Ok(Progress::Denoised { done });
        }
        let picture = generation.finish(pipeline)?.swap_remove(0);
        let path = path(&self.folder, self.step, index);
        save_png(&path, &picture)?;
        self.left.pop();
        Ok(Progress::Picture { path, picture })
    }

    fn params(&self, recipe: &Recipe, index: usize) -> GenerateParams {
        GenerateParams {
            steps: recipe.sample_steps,
            guidance: recipe.sample_guidance,
            seed: recipe.seed,
            max_sequence_length: recipe.max_sequence_length,
            adapters: vec![(self.adapter.clone(), 1.0)],
            ..GenerateParams::new(&recipe.sample_prompts[index], recipe.resolution)
        }
    }
}

fn path(folder: &Path, step: usize, index: usize) -> PathBuf {
    folder.join(format!("step-{step:06}-{index:02}.png"))
}

fn save_png(path: &Path, picture: &RgbImage) -> Result<()> {
    let mut png = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut png, image::ImageFormat::Png).map_err(std::io::Error::other)?;
    crate::atomic::write(path, png.get_ref())
}
