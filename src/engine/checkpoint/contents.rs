//! What is in a file, by its keys: parts of FLUX.1, or something else that people mistake for it.

use super::{file::TensorFile, names::Names, tensors::count_after};
use std::collections::BTreeMap;

/// The parts of a model, by the names of their folders.
pub const TRANSFORMER: &str = "transformer";
pub const CLIP: &str = "text_encoder";
pub const T5: &str = "text_encoder_2";
pub const VAE: &str = "vae";
pub const PARTS: [&str; 4] = [TRANSFORMER, CLIP, T5, VAE];

/// What people call a part.
pub fn in_words(part: &str) -> &'static str {
    match part {
        TRANSFORMER => "a transformer",
        CLIP => "CLIP",
        T5 => "T5",
        _ => "a VAE",
    }
}

/// A part in a file: whose names it has, and what stands before each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub prefix: String,
    pub names: Names,
}

impl Found {
    /// Whose names it has.
    pub fn in_words(&self) -> String {
        let whose = match self.names {
            Names::Own => "diffusers' or transformers' names",
            Names::Bfl | Names::BflVae { .. } => "BFL's names",
            Names::Llama => "llama.cpp's names",
        };
        if self.prefix.is_empty() { whose.to_owned() } else { format!("{whose} after {}", self.prefix) }
    }
}

/// How a part shows itself: a key that only it has, less what may stand before.
const SIGNS: [(&str, &str, Names); 8] = [
    (TRANSFORMER, "double_blocks.0.img_attn.qkv.weight", Names::Bfl),
    (TRANSFORMER, "single_transformer_blocks.0.proj_mlp.weight", Names::Own),
    (CLIP, "text_model.encoder.layers.0.self_attn.q_proj.weight", Names::Own),
    // As newer versions of transformers save it.
    (CLIP, "encoder.layers.0.self_attn.q_proj.weight", Names::Own),
    (T5, "encoder.block.0.layer.0.SelfAttention.q.weight", Names::Own),
    (T5, "enc.blk.0.attn_q.weight", Names::Llama),
    (VAE, "decoder.up.0.block.0.conv1.weight", Names::BflVae { levels: 4 }),
    (VAE, "decoder.up_blocks.0.resnets.0.conv1.weight", Names::Own),
];

/// What may stand before the keys of a part in a file of several.
const PREFIXES: [(&str, &[&str]); 4] = [
    (TRANSFORMER, &["", "model.diffusion_model.", "diffusion_model.", "transformer."]),
    (CLIP, &["", "text_encoders.clip_l.transformer.", "text_encoders.clip_l.", "clip_l.transformer.", "text_encoder."]),
    (T5, &["", "text_encoders.t5xxl.transformer.", "text_encoders.t5xxl.", "t5xxl.transformer.", "text_encoder_2."]),
    (VAE, &["", "vae.", "first_stage_model."]),
];

/// The parts of FLUX.1 in a file.
pub fn parts(file: &TensorFile) -> BTreeMap<&'static str, Found> {
    let mut parts = BTreeMap::new();
    for (part, sign, names) in SIGNS {
        let prefixes = PREFIXES.iter().find(|(name, _)| *name == part).map_or(&[""][..], |(_, prefixes)| prefixes);
        let prefix = prefixes.iter().find(|prefix| file.entries().contains_key(&format!("{prefix}{sign}")));
        if let Some(prefix) = prefix {
            let names = match names {
                Names::BflVae { .. } => Names::BflVae { levels: levels(file, prefix) },
                other => other,
            };
            parts.entry(part).or_insert(Found { prefix: prefix.to_string(), names });
        }
    }
    parts
}

fn levels(file: &TensorFile, prefix: &str) -> usize {
    count_after(file.entries().keys(), &format!("{prefix}decoder.up."))
}

/// Keys of what is no FLUX.1, and what it is.
const OTHERS: [(&str, &str); 13] = [
    ("lora_A.", "a LoRA adapter: give it as --adapter"),
    ("lora_down.", "a LoRA adapter: give it as --adapter"),
    (".lora.down.", "a LoRA adapter: give it as --adapter"),
    ("lokr_w", "a LoKr adapter: give it as --adapter"),
    ("hada_w", "a LoHa adapter: give it as --adapter"),
    ("double_stream_modulation_img", "FLUX.2, which is another architecture"),
    ("distilled_guidance_layer", "Chroma, which is another architecture"),
    ("joint_blocks.", "Stable Diffusion 3, which is another architecture"),
    ("input_blocks.", "Stable Diffusion 1, 2 or XL, which is another architecture"),
    ("down_blocks.0.attentions.0.transformer_blocks", "Stable Diffusion 1, 2 or XL, which is another architecture"),
    ("text_model.encoder.layers.31.", "CLIP-G, which Stable Diffusion XL uses and FLUX.1 does not"),
    ("vision_model.", "a CLIP with its eyes: FLUX.1 takes the text encoder alone"),
    ("decoder.block.0.", "a whole T5: FLUX.1 takes the encoder alone"),
];

/// What a file without a part of FLUX.1 is, as far as its keys tell.
pub fn what_else(file: &TensorFile) -> String {
    let is = |sign: &str| file.entries().keys().any(|key| key.contains(sign));
    match OTHERS.iter().find(|(sign, _)| is(sign)) {
        Some((_, what)) => format!("this is {what}"),
        None => {
            let first = file.entries().keys().min().map_or("it has no tensors".into(), |key| format!("its first key is {key}"));
            format!(
                "no part of FLUX.1 is in it ({first}): a transformer has double_blocks.0.img_attn.qkv.weight or single_transformer_blocks.0.proj_mlp.weight"
            )
        }
    }
}
