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
use engine::memory::Workload;
use engine::residence::Part;
use engine::text_encoder::Conditioning;
use engine::vae::Posterior;
use engine::{Device, Pipeline, Size};
use image::RgbImage;
use latents::Latents;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The caption of dropped captions, and the image hash of its row.
const NOTHING: &str = "";

/// The encoded dataset of one run, on the host: a batch of it travels to the device at each micro-step.
pub struct Cache {
    folder: PathBuf,
    key: Key,
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
        let embeddings = embeddings::read(&Self::parquet(folder), &key, &Device::Cpu);
        Ok(Self { folder: folder.to_owned(), key, embeddings, latents, loaded: HashMap::new() })
    }

    /// Encodes one picture in its frames and its caption, or finds them.
    pub fn prepare(&mut self, pipeline: &Pipeline, dataset: &Dataset, item: &Item, frames: &[Frame]) -> Result<()> {
        self.prepare_caption(pipeline, &item.sha256, &item.caption)?;
        let mut picture = None;
        for frame in frames {
            let posterior = match self.latents.read(&item.sha256, frame, &Device::Cpu) {
                Some(posterior) => posterior,
                None => {
                    let whole = match &picture {
                        Some(whole) => whole,
                        None => picture.insert(dataset.picture(item, Limits::default())?),
                    };
                    let posterior = encode(pipeline, &frame.cut(whole)?)?;
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
            None => self.heard(pipeline, caption)?,
        };
        self.embeddings.insert(sha256.to_owned(), Encoded { caption: caption.to_owned(), conditioning });
        Ok(())
    }

    fn heard(&self, pipeline: &Pipeline, caption: &str) -> Result<Conditioning> {
        let tokens = self.key.max_sequence_length;
        pipeline.make_room(Part::TextEncoder, &Workload::generate(pipeline.sizes.usual_size(), tokens, 1))?;
        let Conditioning { pooled, tokens } = pipeline.text_encoder.encode(&[caption], tokens)?;
        Ok(Conditioning { pooled: pooled.to_device(&Device::Cpu)?, tokens: tokens.to_device(&Device::Cpu)? })
    }

    fn parquet(folder: &Path) -> PathBuf {
        folder.join("embeddings.parquet")
    }
}

/// The VAE's distribution for a picture.
fn encode(pipeline: &Pipeline, picture: &RgbImage) -> Result<Posterior> {
    let size = Size::new(picture.width() as usize, picture.height() as usize)?;
    pipeline.make_room(Part::Vae, &Workload::generate(size, 1, 1))?;
    let Posterior { mean, logvar } = pipeline.vae.encode(&buckets::to_tensor(picture, &pipeline.device)?)?;
    Ok(Posterior { mean: mean.to_device(&Device::Cpu)?, logvar: logvar.to_device(&Device::Cpu)? })
}
