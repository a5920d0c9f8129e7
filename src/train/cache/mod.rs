//! What the encoders made of the pictures and captions, kept by content: image hash, frame and encoder decide, never a position.
//!
//! (Both FLUX.1 training scripts of diffusers read latents by position of another shuffle, and train captions against other pictures.)

mod audit;
mod embeddings;
mod latents;

pub use audit::Audit;

use crate::buckets::{self, Frame};
use crate::dataset::{Item, Limits};
use crate::{Dataset, Recipe, Result};
use embeddings::{Encoded, Key};
use engine::text_encoder::Conditioning;
use engine::vae::Posterior;
use engine::{Device, Pipeline};
use latents::Latents;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The caption of dropped captions, and the image hash of its row.
const NOTHING: &str = "";

/// The encoded dataset of one run.
pub struct Cache {
    folder: PathBuf,
    key: Key,
    device: Device,
    /// By image hash: the caption and what the encoders heard in it. The empty hash holds the empty caption.
    embeddings: HashMap<String, Encoded>,
    latents: Latents,
    loaded: HashMap<(String, Frame), Posterior>,
}

impl Cache {
    /// Opens the cache in `folder`. What an earlier run left is used as far as its keys fit and its files are whole.
    pub fn open(pipeline: &Pipeline, recipe: &Recipe, folder: &Path) -> Result<Self> {
        let latents = Latents::open(&folder.join("latents"), pipeline.vae.fingerprint()?)?;
        let key = Key { encoder: pipeline.text_encoder.fingerprint()?, max_sequence_length: recipe.max_sequence_length };
        let embeddings = embeddings::read(&Self::parquet(folder), &key, &pipeline.device);
        let device = pipeline.device.clone();
        Ok(Self { folder: folder.to_owned(), key, device, embeddings, latents, loaded: HashMap::new() })
    }

    /// Encodes one picture in its frames and its caption, or finds them.
    pub fn prepare(&mut self, pipeline: &Pipeline, dataset: &Dataset, item: &Item, frames: &[Frame]) -> Result<()> {
        self.prepare_caption(pipeline, &item.sha256, &item.caption)?;
        let mut picture = None;
        for frame in frames {
            let posterior = match self.latents.read(&item.sha256, frame, &self.device) {
                Some(posterior) => posterior,
                None => {
                    let whole = match &picture {
                        Some(whole) => whole,
                        None => picture.insert(dataset.picture(item, Limits::default())?),
                    };
                    let posterior = pipeline.vae.encode(&buckets::to_tensor(&frame.cut(whole)?, &self.device)?)?;
                    self.latents.write(&item.sha256, frame, &posterior)?;
                    posterior
                }
            };
            self.loaded.insert((item.sha256.clone(), *frame), posterior);
        }
        Ok(())
    }

    /// Encodes the empty caption, which stands in for dropped ones.
    pub fn prepare_nothing(&mut self, pipeline: &Pipeline) -> Result<()> {
        self.prepare_caption(pipeline, NOTHING, NOTHING)
    }

    /// Writes the embeddings once all captions are in.
    pub fn save(&self) -> Result<()> {
        embeddings::write(&Self::parquet(&self.folder), &self.key, &self.embeddings)
    }

    /// What the encoders heard in this picture's caption: pooled [1, P], tokens [1, T, J].
    pub fn conditioning(&self, item: &Item) -> &Conditioning {
        &self.embeddings[&item.sha256].conditioning
    }

    /// The empty caption's.
    pub fn nothing(&self) -> &Conditioning {
        &self.embeddings[NOTHING].conditioning
    }

    /// The VAE's distribution for this picture in this frame, [1, 16, H/8, W/8].
    pub fn posterior(&self, item: &Item, frame: &Frame) -> &Posterior {
        &self.loaded[&(item.sha256.clone(), *frame)]
    }

    /// Which caption goes with which picture, as the cache's files say.
    pub fn audit(&self, dataset: &Dataset) -> Result<Audit> {
        let captions = embeddings::captions(&Self::parquet(&self.folder))?;
        Audit::new(dataset, &captions, &self.latents)
    }

    /// A caption that several pictures share is encoded once.
    fn prepare_caption(&mut self, pipeline: &Pipeline, sha256: &str, caption: &str) -> Result<()> {
        if self.embeddings.get(sha256).is_some_and(|known| known.caption == caption) {
            return Ok(());
        }
        let conditioning = match self.embeddings.values().find(|known| known.caption == caption) {
            Some(known) => known.conditioning.clone(),
            None => pipeline.text_encoder.encode(&[caption], self.key.max_sequence_length)?,
        };
        self.embeddings.insert(sha256.to_owned(), Encoded { caption: caption.to_owned(), conditioning });
        Ok(())
    }

    fn parquet(folder: &Path) -> PathBuf {
        folder.join("embeddings.parquet")
    }
}
