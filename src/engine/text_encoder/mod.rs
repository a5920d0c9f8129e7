//! Prompt → conditioning: CLIP's pooled vector and T5's token states.

mod attention;
mod clip;
mod embedding;
mod t5;
mod tokenizer;

pub use clip::{Clip, ClipOutput};
pub use t5::T5;

use crate::{Error, GenerateParams, Result, checkpoint, cores::on_the_cores};
use candle_core::{Device, Tensor};
use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
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
    pub clip: Clip,
    pub t5: T5,
    clip_tokenizer: Tokenizer,
    t5_tokenizer: Tokenizer,
    files: Vec<PathBuf>,
    fingerprint: OnceLock<String>,
}

impl TextEncoder {
    pub fn load(model: &Path, device: &Device) -> Result<Self> {
        let (tokenizers, (clip, t5)) = rayon::join(
            || rayon::join(|| Tokenizer::clip(&model.join("tokenizer")), || Tokenizer::t5(&model.join("tokenizer_2"))),
            || rayon::join(|| Clip::load(model, device), || T5::load(model, device)),
        );
        let ((clip, mut files), (t5, t5_files)) = (clip?, t5?);
        let (clip_tokenizer, t5_tokenizer) = (tokenizers.0?, tokenizers.1?);
        files.extend(t5_files);
        files.extend(clip_tokenizer.files.iter().chain(&t5_tokenizer.files).cloned());
        Ok(Self { clip, t5, clip_tokenizer, t5_tokenizer, files, fingerprint: OnceLock::new() })
    }

    /// Encodes prompts, each truncated or padded to `max_sequence_length` T5 tokens (1..=512) and 77 CLIP tokens.
    pub fn encode(&self, prompts: &[&str], max_sequence_length: usize) -> Result<Conditioning> {
        let pooled = self.clip_output(prompts)?.pooled;
        Ok(Conditioning { pooled, tokens: self.t5_hidden(prompts, max_sequence_length)? })
    }

    /// CLIP's last hidden state and pooled output.
    pub fn clip_output(&self, prompts: &[&str]) -> Result<ClipOutput> {
        let ids = self.clip_ids(prompts)?;
        on_the_cores(|| self.clip.forward(&ids))
    }

    /// T5's last hidden state, [B, max_sequence_length, joint].
    pub fn t5_hidden(&self, prompts: &[&str], max_sequence_length: usize) -> Result<Tensor> {
        let ids = self.t5_ids(prompts, max_sequence_length)?;
        on_the_cores(|| self.t5.forward(&ids))
    }

    /// CLIP token ids, each padded or truncated to the model's 77.
    pub fn clip_ids(&self, prompts: &[&str]) -> Result<Vec<Vec<u32>>> {
        self.clip_tokenizer.encode(prompts, self.clip.max_tokens())
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
