//! The transformer's linear layers as its configuration says, without loading it: what adapters will sit on, and how large they are.

use crate::transformer::{Config, LinearInfo};

/// The same list that a loaded transformer gives.
pub fn layers(config: &Config) -> Vec<LinearInfo> {
    let mut list = Vec::new();
    embedders(config, &mut list);
    for i in 0..config.num_layers {
        double(config, &format!("transformer_blocks.{i}"), &mut list);
    }
    for i in 0..config.num_single_layers {
        single(config, &format!("single_transformer_blocks.{i}"), &mut list);
    }
    let width = config.inner_dim();
    push(&mut list, "norm_out.linear", width, 2 * width);
    push(&mut list, "proj_out", width, config.in_channels);
    list
}

fn embedders(config: &Config, list: &mut Vec<LinearInfo>) {
    const SINUSOIDS: usize = 256;
    let width = config.inner_dim();
    let mut mlp = |name: &str, inputs: usize| {
        push(list, &format!("time_text_embed.{name}.linear_1"), inputs, width);
        push(list, &format!("time_text_embed.{name}.linear_2"), width, width);
    };
    mlp("timestep_embedder", SINUSOIDS);
    if config.guidance_embeds {
        mlp("guidance_embedder", SINUSOIDS);
    }
    mlp("text_embedder", config.pooled_projection_dim);
    push(list, "context_embedder", config.joint_attention_dim, width);
    push(list, "x_embedder", config.in_channels, width);
}

fn double(config: &Config, block: &str, list: &mut Vec<LinearInfo>) {
    let (width, mlp) = (config.inner_dim(), config.mlp_dim());
    for (norm, attention, ff) in [
        ("norm1", ["to_q", "to_k", "to_v", "to_out.0"], "ff"),
        ("norm1_context", ["add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"], "ff_context"),
    ] {
        push(list, &format!("{block}.{norm}.linear"), width, 6 * width);
        for name in attention {
            push(list, &format!("{block}.attn.{name}"), width, width);
        }
        push(list, &format!("{block}.{ff}.net.0.proj"), width, mlp);
        push(list, &format!("{block}.{ff}.net.2"), mlp, width);
    }
}

fn single(config: &Config, block: &str, list: &mut Vec<LinearInfo>) {
    let (width, mlp) = (config.inner_dim(), config.mlp_dim());
    push(list, &format!("{block}.norm.linear"), width, 3 * width);
    for name in ["to_q", "to_k", "to_v"] {
        push(list, &format!("{block}.attn.{name}"), width, width);
    }
    push(list, &format!("{block}.proj_mlp"), width, mlp);
    push(list, &format!("{block}.proj_out"), width + mlp, width);
}

fn push(list: &mut Vec<LinearInfo>, path: &str, in_features: usize, out_features: usize) {
    list.push(LinearInfo { id: list.len(), path: path.to_owned(), in_features, out_features });
}
