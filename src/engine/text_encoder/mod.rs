//! Prompt → conditioning: CLIP's pooled vector and T5's token states.

use crate::Result;
use candle_core::{Device, Tensor};
use std::path::Path;

/// What the transformer hears of the prompt.
#[derive(Clone, Debug)]
pub struct Conditioning {
    /// CLIP pooled output: [B, pooled]
    pub pooled: Tensor,
    /// T5 last hidden state: [B, tokens, joint]
    pub tokens: Tensor,
}

pub struct TextEncoder {
    // clip, t5 and their tokenizers
}

impl TextEncoder {
    pub fn load(model: &Path, device: &Device) -> Result<Self> {
        todo!()
    }

    /// Encodes prompts, each truncated or padded to `max_sequence_length` T5 tokens (1..=512) and 77 CLIP tokens.
    pub fn encode(&self, prompts: &[&str], max_sequence_length: usize) -> Result<Conditioning> {
        todo!()
    }

    /// SHA-256 over the encoders' weights and tokenizers: the cache key's share of the model. Computed once, lazily.
    pub fn fingerprint(&self) -> Result<String> {
        todo!()
    }
}
