//! The tensors that a part has in a form, and what each is made of.

use super::Form;
use crate::{
    Result,
    bfl::{self, Fused},
    checkpoint::{Checkpoint, contents},
    memory,
    text_encoder::{ClipConfig, T5Config},
    transformer,
};
use candle_core::Tensor;

/// A tensor to write.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// By the form's names.
    pub key: String,
    pub shape: Vec<usize>,
    /// By the engine's, one under the other.
    pub parts: Vec<(String, Vec<usize>)>,
    /// Whether its halves stand the other way round.
    turned: bool,
    /// Whether it is the weight of a linear layer that the form quantises.
    pub quantised: bool,
}

impl Parameter {
    fn own(key: String, shape: Vec<usize>, quantised: bool) -> Self {
        Self { parts: vec![(key.clone(), shape.clone())], key, shape, turned: false, quantised }
    }

    /// Without `.weight`.
    pub fn layer(&self) -> &str {
        self.key.strip_suffix(".weight").unwrap_or(&self.key)
    }

    /// The whole of its parts.
    pub fn arranged(&self, parts: &[Tensor]) -> Result<Tensor> {
        let whole = Tensor::cat(parts, 0)?;
        if !self.turned {
            return Ok(whole);
        }
        let (rows, half) = (whole.dim(0)?, whole.dim(0)? / 2);
        Ok(Tensor::cat(&[whole.narrow(0, half, rows - half)?, whole.narrow(0, 0, half)?], 0)?)
    }
}

pub fn of(part: &str, checkpoint: &Checkpoint, form: Form) -> Result<Vec<Parameter>> {
    match part {
        contents::TRANSFORMER => {
            let own = transformer(&checkpoint.config()?);
            Ok(if form.is_file() { by_bfls_names(own) } else { own })
        }
        contents::T5 => Ok(t5(&checkpoint.config()?, checkpoint)),
        _ => Ok(clip(&checkpoint.config()?, checkpoint)),
    }
}

/// Every linear layer is quantised, as diffusers does.
fn transformer(config: &transformer::Config) -> Vec<Parameter> {
    let mut list = Vec::new();
    for layer in memory::layers(config) {
        list.push(Parameter::own(format!("{}.weight", layer.path), vec![layer.out_features, layer.in_features], true));
        list.push(Parameter::own(format!("{}.bias", layer.path), vec![layer.out_features], false));
    }
    let mut norms = |blocks: &str, count: usize, names: &[&str]| {
        for (i, name) in (0..count).flat_map(|i| names.iter().map(move |name| (i, name))) {
            list.push(Parameter::own(format!("{blocks}.{i}.attn.{name}.weight"), vec![config.attention_head_dim], false));
        }
    };
    norms("transformer_blocks", config.num_layers, &["norm_q", "norm_k", "norm_added_q", "norm_added_k"]);
    norms("single_transformer_blocks", config.num_single_layers, &["norm_q", "norm_k"]);
    list
}

/// The same in BFL's layers. What BFL's quantised files leave alone is not quantised: embedders, the last layer, and modulation.
fn by_bfls_names(own: Vec<Parameter>) -> Vec<Parameter> {
    let mut list: Vec<Parameter> = Vec::new();
    for parameter in own {
        if let Some(key) = bfl::norm(&parameter.key) {
            list.push(Parameter { key, ..parameter });
            continue;
        }
        let (layer, end) = parameter.key.rsplit_once('.').expect("weight or bias");
        let (fused, index) = Fused::holding(layer).expect("every layer of the transformer has its place");
        let key = format!("{}.{end}", fused.name);
        if index == 0 {
            let inside = key.contains("_blocks.") && !key.contains("mod");
            list.push(Parameter { key, turned: fused.is_turned(), quantised: parameter.quantised && inside, ..parameter });
        } else if let Some(first) = list.iter_mut().rev().find(|first| first.key == key) {
            first.shape[0] += parameter.shape[0];
            first.parts.extend(parameter.parts);
        }
    }
    list
}

/// transformers keeps T5's `wo` out of quantisation.
fn t5(config: &T5Config, checkpoint: &Checkpoint) -> Vec<Parameter> {
    let (width, inner) = (config.d_model, config.num_heads * config.d_kv);
    let table = if checkpoint.has("shared.weight") { "shared.weight" } else { "encoder.embed_tokens.weight" };
    let plain = |key: String, shape: Vec<usize>| Parameter::own(key, shape, false);
    let mut list = vec![plain(table.into(), vec![config.vocab_size, width])];
    for i in 0..config.num_layers {
        let layer = format!("encoder.block.{i}.layer");
        for (name, shape) in [("q", [inner, width]), ("k", [inner, width]), ("v", [inner, width]), ("o", [width, inner])] {
            list.push(Parameter::own(format!("{layer}.0.SelfAttention.{name}.weight"), shape.to_vec(), true));
        }
        if i == 0 {
            let key = format!("{layer}.0.SelfAttention.relative_attention_bias.weight");
            list.push(plain(key, vec![config.relative_attention_num_buckets, config.num_heads]));
        }
        list.push(plain(format!("{layer}.0.layer_norm.weight"), vec![width]));
        for (name, shape, quantised) in
            [("wi_0", [config.d_ff, width], true), ("wi_1", [config.d_ff, width], true), ("wo", [width, config.d_ff], false)]
        {
            list.push(Parameter::own(format!("{layer}.1.DenseReluDense.{name}.weight"), shape.to_vec(), quantised));
        }
        list.push(plain(format!("{layer}.1.layer_norm.weight"), vec![width]));
    }
    list.push(plain("encoder.final_layer_norm.weight".into(), vec![width]));
    list
}

fn clip(config: &ClipConfig, checkpoint: &Checkpoint) -> Vec<Parameter> {
    let outer = if checkpoint.has("text_model.embeddings.token_embedding.weight") { "text_model." } else { "" };
    let width = config.hidden_size;
    let mut list = Vec::new();
    let mut push = |name: &str, shape: Vec<usize>| list.push(Parameter::own(format!("{outer}{name}"), shape, false));
    push("embeddings.token_embedding.weight", vec![config.vocab_size, width]);
    push("embeddings.position_embedding.weight", vec![config.max_position_embeddings, width]);
    let mut both = |name: &str, outputs: usize, inputs: Option<usize>| {
        push(&format!("{name}.weight"), std::iter::once(outputs).chain(inputs).collect());
        push(&format!("{name}.bias"), vec![outputs]);
    };
    for i in 0..config.num_hidden_layers {
        let layer = format!("encoder.layers.{i}");
        for name in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            both(&format!("{layer}.self_attn.{name}"), width, Some(width));
        }
        both(&format!("{layer}.mlp.fc1"), config.intermediate_size, Some(width));
        both(&format!("{layer}.mlp.fc2"), width, Some(config.intermediate_size));
        both(&format!("{layer}.layer_norm1"), width, None);
        both(&format!("{layer}.layer_norm2"), width, None);
    }
    both("final_layer_norm", width, None);
    list
}
