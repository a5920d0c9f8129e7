//! Prompt → conditioning: CLIP's pooled vector and T5's token states.

mod attention;
mod clip;
mod embedding;
mod t5;
mod tokenizer;

pub use clip::{Clip, ClipOutput, Config as ClipConfig};
pub use t5::{Config as T5Config, T5};

use crate::{
    Adapter, AdapterSet, Coverage, Error, GenerateParams, Model, Precision, Result, checkpoint, cores::on_the_cores, evictable::Evictable,
};
use candle_core::{DType, Device, Tensor};
use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};
use tokenizer::Tokenizer;

/// What the transformer hears of the prompt.
#[derive(Clone, Debug)]
pub struct Conditioning {
    /// CLIP pooled output: [B, pooled]
    pub pooled: Tensor,
    /// T5 last hidden state: [B, tokens, joint]
    pub tokens: Tensor,
}

impl Conditioning {
    /// One row for each of `count` pictures, if there is only one row for all.
    pub fn repeat(&self, count: usize) -> Result<Self> {
        if self.pooled.dim(0)? == count {
            return Ok(self.clone());
        }
        Ok(Self { pooled: self.pooled.repeat((count, 1))?, tokens: self.tokens.repeat((count, 1, 1))? })
    }
}

pub struct TextEncoder {
    pub clip: Evictable<Clip>,
    pub t5: Evictable<T5>,
    /// CLIP's tokens: 77.
    clip_tokens: usize,
    clip_tokenizer: Tokenizer,
    t5_tokenizer: Tokenizer,
    files: Vec<PathBuf>,
    fingerprint: OnceLock<String>,
}

impl TextEncoder {
    /// Tokenizers, and where the encoders are to be had: they are loaded when they are first needed. Precisions of CLIP and of T5.
    pub fn open(model: &Model, device: &Device, [clip_precision, t5_precision]: [Precision; 2]) -> Result<Self> {
        let (clip_tokenizer, t5_tokenizer) = rayon::join(|| Tokenizer::clip(model), || Tokenizer::t5(model));
        let (clip_tokenizer, t5_tokenizer) = (clip_tokenizer?, t5_tokenizer?);
        let checkpoints = [model.part("text_encoder", device)?, model.part("text_encoder_2", device)?];
        let clip_tokens = checkpoints[0].config::<ClipConfig>()?.max_position_embeddings;
        let tokenizers = [&clip_tokenizer, &t5_tokenizer].into_iter().flat_map(|tokenizer| tokenizer.files.clone());
        let files = checkpoints.iter().flat_map(|checkpoint| checkpoint.files()).chain(tokenizers).collect();
        let parts = |part: &'static str| {
            let (model, device) = (model.clone(), device.clone());
            move || model.part(part, &device)
        };
        let (clip, t5) = (parts("text_encoder"), parts("text_encoder_2"));
        Ok(Self {
            clip: Evictable::new(move || Clip::load(&clip()?, clip_precision)),
            t5: Evictable::new(move || T5::load(&t5()?, t5_precision)),
            clip_tokens,
            clip_tokenizer,
            t5_tokenizer,
            files,
            fingerprint: OnceLock::new(),
        })
    }

    /// Loads both encoders now.
    pub fn load(&self) -> Result<()> {
        let (clip, t5) = rayon::join(|| self.clip.get().map(drop), || self.t5.get().map(drop));
        clip.and(t5)
    }

    /// Frees their memory until the next prompt.
    pub fn evict(&self) {
        self.clip.evict();
        self.t5.evict();
    }

    pub fn is_resident(&self) -> bool {
        self.clip.is_resident() && self.t5.is_resident()
    }

    /// Encodes prompts, each truncated or padded to `max_sequence_length` T5 tokens (1..=512) and 77 CLIP tokens.
    pub fn encode(&self, prompts: &[&str], max_sequence_length: usize) -> Result<Conditioning> {
        self.encode_with(prompts, max_sequence_length, &AdapterSet::base())
    }

    /// The same with what [`Self::mount`] has mounted on CLIP.
    pub fn encode_with(&self, prompts: &[&str], max_sequence_length: usize, adapters: &AdapterSet) -> Result<Conditioning> {
        let pooled = self.clip_output_with(prompts, adapters)?.pooled;
        Ok(Conditioning { pooled, tokens: self.t5_hidden(prompts, max_sequence_length)? })
    }

    /// Mounts on CLIP what adapters have for it.
    pub fn mount(&self, adapters: &[(Arc<Adapter>, f64)]) -> Result<(AdapterSet, Vec<Coverage>)> {
        AdapterSet::mount_on(self.clip.get()?.host(), adapters)
    }

    /// CLIP's last hidden state and pooled output, in f32.
    pub fn clip_output(&self, prompts: &[&str]) -> Result<ClipOutput> {
        self.clip_output_with(prompts, &AdapterSet::base())
    }

    fn clip_output_with(&self, prompts: &[&str], adapters: &AdapterSet) -> Result<ClipOutput> {
        let (ids, clip) = (self.clip_ids(prompts)?, self.clip.get()?);
        let ClipOutput { last_hidden, pooled } = on_the_cores(|| clip.forward(&ids, adapters))?;
        Ok(ClipOutput { last_hidden: last_hidden.to_dtype(DType::F32)?, pooled: pooled.to_dtype(DType::F32)? })
    }

    /// T5's last hidden state, [B, max_sequence_length, joint], in f32.
    pub fn t5_hidden(&self, prompts: &[&str], max_sequence_length: usize) -> Result<Tensor> {
        let (ids, t5) = (self.t5_ids(prompts, max_sequence_length)?, self.t5.get()?);
        Ok(on_the_cores(|| t5.forward(&ids))?.to_dtype(DType::F32)?)
    }

    /// CLIP token ids, each padded or truncated to the model's 77.
    pub fn clip_ids(&self, prompts: &[&str]) -> Result<Vec<Vec<u32>>> {
        self.clip_tokenizer.encode(prompts, self.clip_tokens)
    }

    /// T5 token ids, each padded or truncated to `max_sequence_length` (1..=512).
    pub fn t5_ids(&self, prompts: &[&str], max_sequence_length: usize) -> Result<Vec<Vec<u32>>> {
        if !(1..=GenerateParams::MAX_SEQUENCE_LENGTH).contains(&max_sequence_length) {
            let most = GenerateParams::MAX_SEQUENCE_LENGTH;
            return Err(Error::invalid(format!("max_sequence_length {max_sequence_length} must be from 1 to {most}")));
        }
        self.t5_tokenizer.encode(prompts, max_sequence_length)
    }

    /// SHA-256 over the encoders' weights and tokenizers: the cache key's share of the model. Computed once, lazily.
    pub fn fingerprint(&self) -> Result<String> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(known.clone());
        }
        let fresh = checkpoint::fingerprint(&self.files)?;
        Ok(self.fingerprint.get_or_init(|| fresh).clone())
    }
}
