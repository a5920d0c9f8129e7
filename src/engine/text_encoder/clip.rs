//! CLIP's text encoder (`CLIPTextModel`), pooled at the end-of-text token.
//!
//! transformers `models/clip/modeling_clip.py`.

use super::{attention::Attention, embedding::embed};
use crate::{
    AdapterSet, Precision, Result,
    adapter::{self, SidePaths},
    checkpoint::{Checkpoint, Keys},
    linear::{Linear, LinearId},
    transformer::{Layers, LinearInfo},
};
use candle_core::{DType, Device, IndexOp, Tensor};
use serde::Deserialize;

/// text_encoder/config.json
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    num_attention_heads: usize,
    pub max_position_embeddings: usize,
    hidden_act: Activation,
    #[serde(default = "default_eps")]
    layer_norm_eps: f32,
    pub eos_token_id: u32,
}

fn default_eps() -> f32 {
    1e-5
}

impl Config {
    fn check(&self) -> std::result::Result<(), String> {
        match self.num_attention_heads {
            0 => Err("num_attention_heads must be greater than 0".into()),
            heads if !self.hidden_size.is_multiple_of(heads) => Err("hidden_size must be a multiple of num_attention_heads".into()),
            _ => Ok(()),
        }
    }

    pub fn parameters(&self) -> usize {
        let (width, tables) = (self.hidden_size, self.vocab_size + self.max_position_embeddings);
        tables * width + self.num_hidden_layers * width * (4 * width + 2 * self.intermediate_size)
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Activation {
    QuickGelu,
    Gelu,
}

impl Activation {
    fn apply(self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::QuickGelu => x * candle_nn::ops::sigmoid(&(x * 1.702)?)?,
            Self::Gelu => x.gelu_erf(),
        }
    }
}

pub struct Clip {
    config: Config,
    /// [vocab, C], [77, C]
    token_embedding: Tensor,
    position_embedding: Tensor,
    layers: Vec<Layer>,
    final_layer_norm: Norm,
    /// Where adapters may sit, by paths with `text_model`.
    linears: Vec<LinearInfo>,
    products: Vec<LinearId>,
    device: Device,
    dtype: DType,
}

pub struct ClipOutput {
    /// [B, 77, C]
    pub last_hidden: Tensor,
    /// [B, C]: the state of the first end-of-text token
    pub pooled: Tensor,
}

impl Clip {
    pub(super) fn load(checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        let config: Config = checkpoint.config()?;
        config.check().map_err(|problem| checkpoint.config_error(problem))?;
        // Newer transformers drop the outer module from the names.
        let root = checkpoint.keys().with(precision);
        let keys = if root.has("text_model.embeddings.token_embedding.weight") { root.at("text_model") } else { root };
        let embeddings = keys.at("embeddings");
        let mut adaptable = Layers::default();
        let layers = (0..config.num_hidden_layers)
            .map(|i| Layer::load(&keys.at("encoder.layers").at(i), &config, &mut adaptable))
            .collect::<Result<_>>()?;
        let clip = Self {
            token_embedding: embeddings.take_active("token_embedding.weight", &[config.vocab_size, config.hidden_size])?,
            position_embedding: embeddings
                .take_active("position_embedding.weight", &[config.max_position_embeddings, config.hidden_size])?,
            layers,
            final_layer_norm: Norm::load(&keys.at("final_layer_norm"), &config)?,
            config,
            linears: adaptable.infos.into_iter().map(with_outer_module).collect(),
            products: adaptable.products,
            device: checkpoint.device().clone(),
            dtype: keys.dtype(),
        };
        checkpoint.report_unused();
        Ok(clip)
    }

    /// For adapters.
    pub(crate) fn host(&self) -> adapter::Host<'_> {
        adapter::Host { linears: &self.linears, device: &self.device, dtype: self.dtype, prefix: adapter::TEXT_ENCODER }
    }

    /// ids: one row per prompt, all of one length of at most `max_position_embeddings`.
    pub fn forward(&self, ids: &[Vec<u32>], adapters: &AdapterSet) -> Result<ClipOutput> {
        let paths = SidePaths::new(adapters, &self.products, self.dtype)?;
        let tokens = ids.first().map_or(0, Vec::len);
        let embedded = embed(&self.token_embedding, ids, &self.device)?;
        let mut x = embedded.broadcast_add(&self.position_embedding.narrow(0, 0, tokens)?)?;
        let mask = causal_mask(tokens, &self.device)?;
        for layer in &self.layers {
            x = layer.forward(&x, &mask, self.config.hidden_act, &paths)?;
        }
        let last_hidden = self.final_layer_norm.forward(&x)?;
        let rows = ids.iter().enumerate().map(|(row, ids)| last_hidden.i((row, self.end_of_text(ids))));
        let pooled = Tensor::stack(&rows.collect::<candle_core::Result<Vec<_>>>()?, 0)?;
        Ok(ClipOutput { last_hidden, pooled })
    }

    /// Position of the first end-of-text token. Configs from before transformers PR 24773 say 2 for it and mean the
    /// highest id of the row.
    fn end_of_text(&self, ids: &[u32]) -> usize {
        let wanted = match self.config.eos_token_id {
            2 => ids.iter().copied().max().unwrap_or_default(),
            id => id,
        };
        ids.iter().position(|&id| id == wanted).unwrap_or_default()
    }
}

fn with_outer_module(info: LinearInfo) -> LinearInfo {
    const OUTER: &str = "text_model.";
    let path = if info.path.starts_with(OUTER) { info.path } else { format!("{OUTER}{}", info.path) };
    LinearInfo { path, ..info }
}

/// 0 up to and including the query's own position, -∞ after it: [1, S, S]
fn causal_mask(tokens: usize, device: &Device) -> Result<Tensor> {
    let value = |query: usize, key: usize| if key > query { f32::NEG_INFINITY } else { 0.0 };
    let mask: Vec<f32> = (0..tokens).flat_map(|q| (0..tokens).map(move |k| value(q, k))).collect();
    Ok(Tensor::from_vec(mask, (1, tokens, tokens), device)?)
}

struct Layer {
    layer_norm1: Norm,
    self_attn: Attention,
    layer_norm2: Norm,
    fc1: Linear,
    fc2: Linear,
}

impl Layer {
    fn load(keys: &Keys, config: &Config, layers: &mut Layers) -> Result<Self> {
        let (width, heads) = (config.hidden_size, config.num_attention_heads);
        let mut project = |name: &str| layers.linear(&keys.at("self_attn").at(name), width, width);
        Ok(Self {
            layer_norm1: Norm::load(&keys.at("layer_norm1"), config)?,
            self_attn: Attention {
                q: project("q_proj")?,
                k: project("k_proj")?,
                v: project("v_proj")?,
                out: project("out_proj")?,
                heads,
                scale: ((width / heads) as f64).powf(-0.5),
            },
            layer_norm2: Norm::load(&keys.at("layer_norm2"), config)?,
            fc1: layers.linear(&keys.at("mlp.fc1"), width, config.intermediate_size)?,
            fc2: layers.linear(&keys.at("mlp.fc2"), config.intermediate_size, width)?,
        })
    }

    fn forward(&self, x: &Tensor, mask: &Tensor, activation: Activation, paths: &SidePaths) -> Result<Tensor> {
        let x = (x + self.self_attn.forward(&self.layer_norm1.forward(x)?, mask, paths)?)?;
        let hidden = activation.apply(&self.fc1.forward(&(&self.layer_norm2.forward(&x)?).into(), paths)?)?;
        Ok((&x + self.fc2.forward(&(&hidden).into(), paths)?)?)
    }
}

/// LayerNorm with weight and bias. Not differentiable, as nothing here needs to be.
struct Norm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl Norm {
    fn load(keys: &Keys, config: &Config) -> Result<Self> {
        let take = |name| keys.take_active(name, &[config.hidden_size]);
        Ok(Self { weight: take("weight")?, bias: take("bias")?, eps: config.layer_norm_eps })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(candle_nn::ops::layer_norm(x, &self.weight, &self.bias, self.eps)?)
    }
}
