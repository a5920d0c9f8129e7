//! T5's encoder (`T5EncoderModel`, version 1.1: gated GELU, no biases). No attention mask, as FLUX.1 uses it.
//!
//! transformers `models/t5/modeling_t5.py`.

use super::{attention::Attention, embedding::embed};
use crate::{
    Precision, Result,
    adapter::SidePaths,
    checkpoint::{Checkpoint, Keys},
    linear::Linear,
    ops,
};
use candle_core::{Device, Tensor};
use serde::Deserialize;

/// text_encoder_2/config.json
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    pub vocab_size: usize,
    pub d_model: usize,
    pub d_kv: usize,
    pub d_ff: usize,
    pub num_layers: usize,
    pub num_heads: usize,
    pub relative_attention_num_buckets: usize,
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
    /// Linear layers in `precision`.
    pub(super) fn load(checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        let config: Config = checkpoint.config()?;
        config.check().map_err(|problem| checkpoint.config_error(problem))?;
        let (keys, vocab) = (checkpoint.keys().with(precision), [config.vocab_size, config.d_model]);
        let name = if keys.has("shared.weight") { "shared.weight" } else { "encoder.embed_tokens.weight" };
        let block = |i| Block::load(&keys.at("encoder.block").at(i).at("layer"), &config);
        let bias = "block.0.layer.0.SelfAttention.relative_attention_bias.weight";
        let t5 = Self {
            embedding: keys.take_active(name, &vocab)?,
            relative_attention_bias: keys.at("encoder").take_f32(bias, &[config.relative_attention_num_buckets, config.num_heads])?,
            blocks: (0..config.num_layers).map(block).collect::<Result<_>>()?,
            final_layer_norm: keys.take_active("encoder.final_layer_norm.weight", &[config.d_model])?,
            config,
            device: checkpoint.device().clone(),
        };
        checkpoint.report_unused();
        Ok(t5)
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
    fn check(&self) -> std::result::Result<(), String> {
        if self.feed_forward_proj != "gated-gelu" {
            return Err(format!("feed_forward_proj {:?}: only gated-gelu (T5 1.1) is supported", self.feed_forward_proj));
        }
        let buckets = self.relative_attention_num_buckets;
        if buckets < 4 || self.relative_attention_max_distance <= buckets / 4 {
            return Err("relative_attention_num_buckets and relative_attention_max_distance leave no room for distances".into());
        }
        Ok(())
    }

    /// Weights of the linear layers, which are quantised.
    pub fn linear_parameters(&self) -> usize {
        self.num_layers * self.d_model * (4 * self.num_heads * self.d_kv + 3 * self.d_ff)
    }

    /// Weights of the token table, which are not.
    pub fn embedding_parameters(&self) -> usize {
        self.vocab_size * self.d_model
    }

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
            attention_norm: keys.take_active("0.layer_norm.weight", &[width])?,
            attention: Attention {
                q: project("q")?,
                k: project("k")?,
                v: project("v")?,
                out: Linear::load_unbiased(&attention.at("o"), inner, width)?,
                heads: config.num_heads,
                scale: 1.0,
            },
            ff_norm: keys.take_active("1.layer_norm.weight", &[width])?,
            wi_0: Linear::load_unbiased(&dense.at("wi_0"), width, config.d_ff)?,
            wi_1: Linear::load_unbiased(&dense.at("wi_1"), width, config.d_ff)?,
            wo: Linear::load_unbiased(&dense.at("wo"), config.d_ff, width)?,
        })
    }

    fn forward(&self, x: &Tensor, bias: &Tensor, epsilon: f32) -> Result<Tensor> {
        let norm = |x: &Tensor, weight: &Tensor| candle_nn::ops::rms_norm(x, weight, epsilon);
        let x = (x + self.attention.forward(&norm(x, &self.attention_norm)?, bias, &SidePaths::default())?)?;
        let normal = norm(&x, &self.ff_norm)?;
        let gated = (ops::gelu(&self.wi_0.apply(&normal)?)? * self.wi_1.apply(&normal)?)?;
        Ok((&x + self.wo.apply(&gated)?)?)
    }
}
