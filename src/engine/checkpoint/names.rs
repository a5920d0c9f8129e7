//! The names of a part's tensors in a file, by the engine's own (diffusers' and transformers'): BFL's transformer and VAE, llama.cpp's T5.

use crate::bfl::{self, Fused};

/// Whose names a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// diffusers' or transformers'.
    Own,
    Bfl,
    /// BFL's VAE; how many levels it has: they count from the finest on in both halves.
    BflVae {
        levels: usize,
    },
    /// llama.cpp's T5 encoder.
    Llama,
}

/// Where a tensor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub key: String,
    pub part: Part,
}

/// Which of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Whole,
    /// Its second half, then its first.
    Turned,
    /// Of several of one size.
    Nth {
        index: usize,
        of: usize,
    },
    /// What follows all others.
    Last,
}

impl Names {
    /// Where the tensor that the engine calls `key` is.
    pub fn place(self, key: &str) -> Option<Place> {
        let whole = |key: String| Some(Place { key, part: Part::Whole });
        match self {
            Self::Own => whole(key.to_owned()),
            Self::Bfl => bfl_place(key),
            Self::BflVae { levels } => whole(vae(key, levels)),
            Self::Llama => whole(llama(key)?),
        }
    }
}

fn bfl_place(key: &str) -> Option<Place> {
    if let Some(key) = bfl::norm(key) {
        return Some(Place { key, part: Part::Whole });
    }
    let (layer, end) = key.rsplit_once('.')?;
    let (fused, index) = Fused::holding(layer)?;
    let part = match fused.parts.len() {
        1 if fused.is_turned() => Part::Turned,
        1 => Part::Whole,
        4 if index == 3 => Part::Last,
        of => Part::Nth { index, of },
    };
    Some(Place { key: format!("{}.{end}", fused.name), part })
}

/// diffusers `scripts/convert_vae_pt_to_diffusers.py`, the other way.
fn vae(key: &str, levels: usize) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut parts = key.split('.').peekable();
    while let Some(word) = parts.next() {
        let mut number = || parts.next().and_then(|number| number.parse::<usize>().ok()).unwrap_or_default();
        match word {
            "down_blocks" => words.extend(["down".into(), number().to_string()]),
            // Counted from the coarsest level in diffusers.
            "up_blocks" => words.extend(["up".into(), (levels - 1).saturating_sub(number()).to_string()]),
            "mid_block" => words.push("mid".into()),
            "attentions" => {
                number();
                words.push("attn_1".into());
            }
            "resnets" if words.last().is_some_and(|last| last == "mid") => words.push(format!("block_{}", number() + 1)),
            "resnets" => words.extend(["block".into(), number().to_string()]),
            "downsamplers" | "upsamplers" => {
                number();
                words.push(word.trim_end_matches("rs").to_owned());
            }
            "conv_shortcut" => words.push("nin_shortcut".into()),
            "conv_norm_out" => words.push("norm_out".into()),
            "group_norm" => words.push("norm".into()),
            "to_q" | "to_k" | "to_v" => words.push(word[3..].to_owned()),
            "to_out" => {
                number();
                words.push("proj_out".into());
            }
            other => words.push(other.to_owned()),
        }
    }
    words.join(".")
}

/// llama.cpp `gguf-py/gguf/tensor_mapping.py`: the encoder's half.
fn llama(key: &str) -> Option<String> {
    const LAYERS: [(&str, &str); 10] = [
        ("layer.0.SelfAttention.q", "attn_q"),
        ("layer.0.SelfAttention.k", "attn_k"),
        ("layer.0.SelfAttention.v", "attn_v"),
        ("layer.0.SelfAttention.o", "attn_o"),
        ("layer.0.SelfAttention.relative_attention_bias", "attn_rel_b"),
        ("layer.0.layer_norm", "attn_norm"),
        ("layer.1.DenseReluDense.wi_0", "ffn_gate"),
        ("layer.1.DenseReluDense.wi_1", "ffn_up"),
        ("layer.1.DenseReluDense.wo", "ffn_down"),
        ("layer.1.layer_norm", "ffn_norm"),
    ];
    match key {
        "shared.weight" => return Some("token_embd.weight".into()),
        "encoder.final_layer_norm.weight" => return Some("enc.output_norm.weight".into()),
        _ => {}
    }
    let (number, inner) = key.strip_prefix("encoder.block.")?.split_once('.')?;
    let inner = inner.strip_suffix(".weight")?;
    let (_, name) = LAYERS.iter().find(|(own, _)| *own == inner)?;
    Some(format!("enc.blk.{number}.{name}.weight"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(names: Names, key: &str) -> String {
        names.place(key).unwrap().key
    }

    #[test]
    fn keys_of_the_other_layouts() {
        let vae = Names::BflVae { levels: 4 };
        for (own, theirs) in [
            ("decoder.up_blocks.0.resnets.2.conv1.weight", "decoder.up.3.block.2.conv1.weight"),
            ("decoder.up_blocks.2.upsamplers.0.conv.bias", "decoder.up.1.upsample.conv.bias"),
            ("encoder.down_blocks.1.resnets.0.conv_shortcut.weight", "encoder.down.1.block.0.nin_shortcut.weight"),
            ("encoder.down_blocks.0.downsamplers.0.conv.weight", "encoder.down.0.downsample.conv.weight"),
            ("encoder.mid_block.resnets.1.norm2.weight", "encoder.mid.block_2.norm2.weight"),
            ("decoder.mid_block.attentions.0.group_norm.bias", "decoder.mid.attn_1.norm.bias"),
            ("decoder.mid_block.attentions.0.to_out.0.weight", "decoder.mid.attn_1.proj_out.weight"),
            ("decoder.mid_block.attentions.0.to_q.weight", "decoder.mid.attn_1.q.weight"),
            ("decoder.conv_norm_out.weight", "decoder.norm_out.weight"),
        ] {
            assert_eq!(place(vae, own), theirs);
        }
        assert_eq!(place(Names::Llama, "encoder.block.3.layer.1.DenseReluDense.wo.weight"), "enc.blk.3.ffn_down.weight");
        assert_eq!(Names::Llama.place("encoder.embed_tokens.weight"), None);
    }

    #[test]
    fn fused_layers_are_found_by_their_parts() {
        let part = |key: &str| Names::Bfl.place(key).map(|place| (place.key, place.part));
        assert_eq!(
            part("single_transformer_blocks.4.attn.to_v.weight"),
            Some(("single_blocks.4.linear1.weight".into(), Part::Nth { index: 2, of: 4 }))
        );
        assert_eq!(part("single_transformer_blocks.4.proj_mlp.bias"), Some(("single_blocks.4.linear1.bias".into(), Part::Last)));
        assert_eq!(part("norm_out.linear.weight"), Some(("final_layer.adaLN_modulation.1.weight".into(), Part::Turned)));
        assert_eq!(part("transformer_blocks.0.attn.norm_added_k.weight").unwrap().1, Part::Whole);
        assert_eq!(part("transformer_blocks.0.nothing.weight"), None);
    }
}
