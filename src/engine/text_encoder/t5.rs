//! T5's encoder (`T5EncoderModel`, version 1.1: gated GELU, no biases). No attention mask, as FLUX.1 uses it.
//!
//! transformers `models/t5/modeling_t5.py`.

use super::{attention::Attention, embedding::embed};
use crate::{
    Result,
    checkpoint::{Checkpoint, Keys},
    linear::Linear,
    ops,
};
use candle_core::{Device, Tensor};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// text_encoder_2/config.json
#[derive(Clone, Debug, Deserialize)]
struct Config {
    vocab_size: usize,
    d_model: usize,
    d_kv: usize,
    d_ff: usize,
    num_layers: usize,
    num_heads: usize,
    relative_attention_num_buckets: usize,
    #[serde(default = "default_max_distance")]
    relative_attention_max_distance: usize,
    layer_norm_epsilon: f32,
    feed_forward_proj: String,
}

fn default_max_distance() -> usize {
    128
}

pub struct T5 {
    config: Config,
    /// [vocab, C]
    embedding: Tensor,
    /// [buckets, heads], shared by all blocks
    relative_attention_bias: Tensor,
    blocks: Vec<Block>,
    final_layer_norm: Tensor,
    device: Device,
}

impl T5 {
    /// The encoder and its weight files.
    pub(super) fn load(model: &Path, device: &Device) -> Result<(Self, Vec<PathBuf>)> {
        let checkpoint = Checkpoint::open(model, "text_encoder_2", device)?;
        let config: Config = checkpoint.config()?;
        if config.feed_forward_proj != "gated-gelu" {
            return Err(
                checkpoint.config_error(format!("feed_forward_proj {:?}: only gated-gelu (T5 1.1) is supported", config.feed_forward_proj))
            );
        }
        if config.relative_attention_num_buckets < 4 || config.relative_attention_max_distance <= config.relative_attention_num_buckets / 4
        {
            return Err(
                checkpoint.config_error("relative_attention_num_buckets and relative_attention_max_distance leave no room for distances")
            );
        }
        let (keys, vocab) = (checkpoint.keys(), [config.vocab_size, config.d_model]);
        let name = if keys.has("shared.weight") { "shared.weight" } else { "encoder.embed_tokens.weight" };
        let block = |i| Block::load(&keys.at("encoder.block").at(i).at("layer"), &config);
        let bias = "block.0.layer.0.SelfAttention.relative_attention_bias.weight";
        let t5 = Self {
            embedding: keys.take_f32(name, &vocab)?,
            relative_attention_bias: keys.at("encoder").take_f32(bias, &[config.relative_attention_num_buckets, config.num_heads])?,
            blocks: (0..config.num_layers).map(block).collect::<Result<_>>()?,
            final_layer_norm: keys.take_f32("encoder.final_layer_norm.weight", &[config.d_model])?,
            config,
            device: device.clone(),
        };
        checkpoint.report_unused();
        Ok((t5, checkpoint.files()))
    }

    /// ids: one row per prompt, all of one length → last hidden state [B, S, C].
    pub fn forward(&self, ids: &[Vec<u32>]) -> Result<Tensor> {
        let mut x = embed(&self.embedding, ids, &self.device)?;
        let bias = self.position_bias(x.dim(1)?)?;
        for block in &self.blocks {
            x = block.forward(&x, &bias, self.config.layer_norm_epsilon)?;
        }
        Ok(candle_nn::ops::rms_norm(&x, &self.final_layer_norm, self.config.layer_norm_epsilon)?)
    }

    /// [H, S, S]: one learned value per head and bucket of distance.
    fn position_bias(&self, tokens: usize) -> Result<Tensor> {
        let bucket = |query: usize, key: usize| self.config.bucket(key as i64 - query as i64);
        let buckets: Vec<u32> = (0..tokens).flat_map(|q| (0..tokens).map(move |k| bucket(q, k))).collect();
        let buckets = Tensor::from_vec(buckets, tokens * tokens, &self.device)?;
        // (s·s, h) -> (h, s, s)
        let values = self.relative_attention_bias.index_select(&buckets, 0)?.reshape((tokens, tokens, self.config.num_heads))?;
        Ok(values.permute((2, 0, 1))?.contiguous()?)
    }
}

impl Config {
    /// `_relative_position_bucket`, bidirectional: half of the buckets for each direction; of those, half are exact
    /// distances and half grow logarithmically. In f32 as the reference, since it truncates exact powers.
    fn bucket(&self, relative: i64) -> u32 {
        let buckets = self.relative_attention_num_buckets / 2;
        let direction = if relative > 0 { buckets } else { 0 };
        let (distance, exact) = (relative.unsigned_abs() as usize, buckets / 2);
        if distance < exact {
            return (direction + distance) as u32;
        }
        let ratio = (self.relative_attention_max_distance as f64 / exact as f64).ln() as f32;
        let grown = exact + ((distance as f32 / exact as f32).ln() / ratio * (buckets - exact) as f32) as usize;
        (direction + grown.min(buckets - 1)) as u32
    }
}

struct Block {
    attention_norm: Tensor,
    attention: Attention,
    ff_norm: Tensor,
    wi_0: Linear,
    wi_1: Linear,
    wo: Linear,
}

impl Block {
    fn load(keys: &Keys, config: &Config) -> Result<Self> {
        let (width, inner) = (config.d_model, config.num_heads * config.d_kv);
        let (attention, dense) = (keys.at("0.SelfAttention"), keys.at("1.DenseReluDense"));
        let project = |name: &str| Linear::load_unbiased(&attention.at(name), width, inner);
        Ok(Self {
            attention_norm: keys.take_f32("0.layer_norm.weight", &[width])?,
            attention: Attention {
                q: project("q")?,
                k: project("k")?,
                v: project("v")?,
                out: Linear::load_unbiased(&attention.at("o"), inner, width)?,
                heads: config.num_heads,
                scale: 1.0,
            },
            ff_norm: keys.take_f32("1.layer_norm.weight", &[width])?,
            wi_0: Linear::load_unbiased(&dense.at("wi_0"), width, config.d_ff)?,
            wi_1: Linear::load_unbiased(&dense.at("wi_1"), width, config.d_ff)?,
            wo: Linear::load_unbiased(&dense.at("wo"), config.d_ff, width)?,
        })
    }

    fn forward(&self, x: &Tensor, bias: &Tensor, epsilon: f32) -> Result<Tensor> {
        let norm = |x: &Tensor, weight: &Tensor| candle_nn::ops::rms_norm(x, weight, epsilon);
        let x = (x + self.attention.forward(&norm(x, &self.attention_norm)?, bias)?)?;
        let normal = norm(&x, &self.ff_norm)?;
        let gated = (ops::gelu(&self.wi_0.apply(&normal)?)? * self.wi_1.apply(&normal)?)?;
        Ok((&x + self.wo.apply(&gated)?)?)
    }
}
