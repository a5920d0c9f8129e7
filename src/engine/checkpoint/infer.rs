//! The configuration of a part that came without one, from the shapes of its tensors.
//!
//! What no shape tells is what every FLUX.1 has: heads of CLIP of 64 channels, 32 groups in the VAE's norms, its shift and scale.

use super::{
    contents::{CLIP, T5, TRANSFORMER, VAE},
    tensors::Tensors,
};
use crate::{Error, Result};
use serde_json::{Value, json};

/// config.json of `part` as its folder would have it.
pub fn config(part: &str, tensors: &Tensors) -> Result<Value> {
    match part {
        TRANSFORMER => transformer(tensors),
        CLIP => clip(tensors),
        T5 => t5(tensors),
        VAE => vae(tensors),
        other => Err(Error::invalid(format!("there is no part {other} in a file"))),
    }
}

fn transformer(tensors: &Tensors) -> Result<Value> {
    let [dim, channels] = shape(tensors, "x_embedder.weight")?;
    let [_, joint] = shape(tensors, "context_embedder.weight")?;
    let [_, pooled] = shape(tensors, "time_text_embed.text_embedder.linear_1.weight")?;
    let [head] = shape(tensors, "transformer_blocks.0.attn.norm_q.weight")?;
    let blocks = |name: &str, norm: &str| tensors.count(|i| format!("{name}.{i}.{norm}.weight"));
    Ok(json!({
        "in_channels": channels,
        "num_layers": blocks("transformer_blocks", "norm1.linear"),
        "num_single_layers": blocks("single_transformer_blocks", "norm.linear"),
        "attention_head_dim": head,
        "num_attention_heads": dim / head.max(1),
        "joint_attention_dim": joint,
        "pooled_projection_dim": pooled,
        "guidance_embeds": tensors.has("time_text_embed.guidance_embedder.linear_1.weight"),
        "axes_dims_rope": axes(head),
    }))
}

/// FLUX.1 gives an eighth of a head to the first axis and half of the rest to each of the others: 16, 56 and 56 of 128. Every width is even.
fn axes(head: usize) -> [usize; 3] {
    let each = head * 7 / 32 * 2;
    [head.saturating_sub(2 * each), each, each]
}

fn clip(tensors: &Tensors) -> Result<Value> {
    const HEAD: usize = 64;
    let outer = if tensors.has("text_model.embeddings.token_embedding.weight") { "text_model." } else { "" };
    let [vocab, width] = shape(tensors, &format!("{outer}embeddings.token_embedding.weight"))?;
    let [positions, _] = shape(tensors, &format!("{outer}embeddings.position_embedding.weight"))?;
    let [inner, _] = shape(tensors, &format!("{outer}encoder.layers.0.mlp.fc1.weight"))?;
    Ok(json!({
        "vocab_size": vocab,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": tensors.count(|i| format!("{outer}encoder.layers.{i}.mlp.fc1.weight")),
        "num_attention_heads": width / HEAD,
        "max_position_embeddings": positions,
        "hidden_act": "quick_gelu",
        // The end of text is the last token of CLIP's vocabulary.
        "eos_token_id": vocab.saturating_sub(1),
    }))
}

fn t5(tensors: &Tensors) -> Result<Value> {
    let table = if tensors.has("shared.weight") { "shared.weight" } else { "encoder.embed_tokens.weight" };
    let [vocab, width] = shape(tensors, table)?;
    let [inner, _] = shape(tensors, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight")?;
    let [attention, _] = shape(tensors, "encoder.block.0.layer.0.SelfAttention.q.weight")?;
    let [buckets, heads] = shape(tensors, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight")?;
    Ok(json!({
        "vocab_size": vocab,
        "d_model": width,
        "d_kv": attention / heads.max(1),
        "d_ff": inner,
        "num_layers": tensors.count(|i| format!("encoder.block.{i}.layer.0.SelfAttention.q.weight")),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "layer_norm_epsilon": 1e-6,
        "feed_forward_proj": "gated-gelu",
    }))
}

fn vae(tensors: &Tensors) -> Result<Value> {
    let levels = tensors.count(|i| format!("encoder.down_blocks.{i}.resnets.0.conv1.weight"));
    let width = |i: usize| shape::<4>(tensors, &format!("encoder.down_blocks.{i}.resnets.0.conv1.weight")).map(|[width, ..]| width);
    let [_, latent, ..] = shape::<4>(tensors, "decoder.conv_in.weight")?;
    Ok(json!({
        "block_out_channels": (0..levels).map(width).collect::<Result<Vec<_>>>()?,
        "layers_per_block": tensors.count(|i| format!("encoder.down_blocks.0.resnets.{i}.conv1.weight")),
        "latent_channels": latent,
        "norm_num_groups": 32,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
        "mid_block_add_attention": tensors.has("decoder.mid_block.attentions.0.to_q.weight"),
        "use_quant_conv": tensors.has("quant_conv.weight"),
        "use_post_quant_conv": tensors.has("post_quant_conv.weight"),
        "down_block_types": vec!["DownEncoderBlock2D"; levels],
        "up_block_types": vec!["UpDecoderBlock2D"; levels],
    }))
}

fn shape<const N: usize>(tensors: &Tensors, key: &str) -> Result<[usize; N]> {
    let shape = tensors.shape(key)?;
    let exact = shape.as_slice().try_into();
    exact.map_err(|_| tensors.refuse(format!("tensor {key} has shape {shape:?}, but {N} dimensions are expected")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_add_up_to_the_head() {
        assert_eq!(axes(128), [16, 56, 56]);
        assert_eq!(axes(64), [8, 28, 28]);
        assert_eq!(axes(16), [4, 6, 6]);
        assert!((1..99).map(|half| 2 * half).all(|head| axes(head).iter().sum::<usize>() == head && axes(head).iter().all(|n| n % 2 == 0)));
    }
}
