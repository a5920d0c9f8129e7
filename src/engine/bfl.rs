//! Black Forest Labs' names for the layers of the transformer, and where diffusers' layers lie in them.
//!
//! BFL's own files, ComfyUI, GGUF and kohya use these names; diffusers' are this engine's. One layer of BFL's may hold several of diffusers',
//! their outputs side by side. diffusers `scripts/convert_flux_to_diffusers.py`, `loaders/lora_conversion_utils.py`.

use std::ops::Range;

/// A layer of BFL's and the layers of diffusers' that it holds, in the order of its outputs.
type Layer = (&'static str, &'static [&'static str]);

/// Blocks that are numbered, by either's name.
struct Blocks {
    bfl: &'static str,
    diffusers: &'static str,
    layers: &'static [Layer],
    /// Weights of the norms of queries and keys.
    norms: &'static [(&'static str, &'static str)],
}

const DOUBLE: Blocks = Blocks {
    bfl: "double_blocks",
    diffusers: "transformer_blocks",
    layers: &[
        ("img_mod.lin", &["norm1.linear"]),
        ("txt_mod.lin", &["norm1_context.linear"]),
        ("img_attn.qkv", &["attn.to_q", "attn.to_k", "attn.to_v"]),
        ("txt_attn.qkv", &["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"]),
        ("img_attn.proj", &["attn.to_out.0"]),
        ("txt_attn.proj", &["attn.to_add_out"]),
        ("img_mlp.0", &["ff.net.0.proj"]),
        ("img_mlp.2", &["ff.net.2"]),
        ("txt_mlp.0", &["ff_context.net.0.proj"]),
        ("txt_mlp.2", &["ff_context.net.2"]),
    ],
    norms: &[
        ("img_attn.norm.query_norm.scale", "attn.norm_q.weight"),
        ("img_attn.norm.key_norm.scale", "attn.norm_k.weight"),
        ("txt_attn.norm.query_norm.scale", "attn.norm_added_q.weight"),
        ("txt_attn.norm.key_norm.scale", "attn.norm_added_k.weight"),
    ],
};

const SINGLE: Blocks = Blocks {
    bfl: "single_blocks",
    diffusers: "single_transformer_blocks",
    layers: &[
        ("modulation.lin", &["norm.linear"]),
        ("linear1", &["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"]),
        ("linear2", &["proj_out"]),
    ],
    norms: &[("norm.query_norm.scale", "attn.norm_q.weight"), ("norm.key_norm.scale", "attn.norm_k.weight")],
};

const OUTER: &[Layer] = &[
    ("img_in", &["x_embedder"]),
    ("txt_in", &["context_embedder"]),
    ("time_in.in_layer", &["time_text_embed.timestep_embedder.linear_1"]),
    ("time_in.out_layer", &["time_text_embed.timestep_embedder.linear_2"]),
    ("vector_in.in_layer", &["time_text_embed.text_embedder.linear_1"]),
    ("vector_in.out_layer", &["time_text_embed.text_embedder.linear_2"]),
    ("guidance_in.in_layer", &["time_text_embed.guidance_embedder.linear_1"]),
    ("guidance_in.out_layer", &["time_text_embed.guidance_embedder.linear_2"]),
    ("final_layer.adaLN_modulation.1", &[TURNED]),
    ("final_layer.linear", &["proj_out"]),
];

/// BFL's last modulation makes shift before scale, diffusers' scale before shift.
const TURNED: &str = "norm_out.linear";

/// A layer of BFL's that holds some of diffusers'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fused {
    /// Such as `double_blocks.3.img_attn.qkv`.
    pub name: String,
    /// Such as `transformer_blocks.3.attn.to_q`, in the order of the outputs.
    pub parts: Vec<String>,
}

impl Fused {
    /// By BFL's name.
    pub fn named(name: &str) -> Option<Self> {
        let (prefix, inner, layers) = match split(name, |blocks| blocks.bfl) {
            Some((blocks, number, inner)) => (format!("{}.{number}.", blocks.diffusers), inner, blocks.layers),
            None => (String::new(), name, OUTER),
        };
        let (_, parts) = layers.iter().find(|(bfl, _)| *bfl == inner)?;
        Some(Self { name: name.to_owned(), parts: parts.iter().map(|part| format!("{prefix}{part}")).collect() })
    }

    /// The one that holds a layer of diffusers', and that layer's place among its parts.
    pub fn holding(part: &str) -> Option<(Self, usize)> {
        let (prefix, inner, layers) = match split(part, |blocks| blocks.diffusers) {
            Some((blocks, number, inner)) => (format!("{}.{number}.", blocks.bfl), inner, blocks.layers),
            None => (String::new(), part, OUTER),
        };
        let (bfl, parts) = layers.iter().find(|(_, parts)| parts.contains(&inner))?;
        let index = parts.iter().position(|other| *other == inner)?;
        Some((Self::named(&format!("{prefix}{bfl}"))?, index))
    }

    /// Whether its outputs stand in another order than its one part's.
    pub fn is_turned(&self) -> bool {
        self.parts == [TURNED]
    }

    /// The outputs of each part within those of the whole, [out, in]: a layer's weight of this shape has these rows of it. None if the shape
    /// cannot be divided so.
    pub fn rows(&self, out_features: usize, in_features: usize) -> Option<Vec<Vec<Range<usize>>>> {
        let one = |start: usize, count: usize| -> Vec<Range<usize>> { vec![start..start + count] };
        match self.parts.len() {
            1 if self.is_turned() => {
                let half = out_features.is_multiple_of(2).then_some(out_features / 2)?;
                Some(vec![vec![half..out_features, 0..half]])
            }
            1 => Some(vec![one(0, out_features)]),
            // q, k and v are as wide as what they read; the MLP has the rest.
            4 => {
                let mlp = out_features.checked_sub(3 * in_features).filter(|rest| *rest > 0)?;
                let starts = (0..3).map(|i| one(i * in_features, in_features));
                Some(starts.chain([one(3 * in_features, mlp)]).collect())
            }
            parts => {
                let count = out_features.is_multiple_of(parts).then_some(out_features / parts)?;
                Some((0..parts).map(|i| one(i * count, count)).collect())
            }
        }
    }
}

/// BFL's name of the weight of a norm of queries or keys.
pub fn norm(diffusers: &str) -> Option<String> {
    let (blocks, number, inner) = split(diffusers, |blocks| blocks.diffusers)?;
    let (bfl, _) = blocks.norms.iter().find(|(_, name)| *name == inner)?;
    Some(format!("{}.{number}.{bfl}", blocks.bfl))
}

/// `double_blocks_3_img_attn_qkv` or `transformer_blocks_3_attn_to_q` with the dots that were there: by either's names.
pub fn unflattened(flat: &str) -> Option<String> {
    for blocks in [&DOUBLE, &SINGLE] {
        for (name, of) in [(blocks.bfl, Whose::Bfl), (blocks.diffusers, Whose::Diffusers)] {
            let Some((number, inner)) = flat.strip_prefix(name).and_then(|rest| rest.strip_prefix('_')?.split_once('_')) else { continue };
            if !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()) {
                return of
                    .names(blocks.layers)
                    .find(|layer| layer.replace('.', "_") == inner)
                    .map(|layer| format!("{name}.{number}.{layer}"));
            }
        }
    }
    let outer = Whose::Bfl.names(OUTER).chain(Whose::Diffusers.names(OUTER));
    outer.into_iter().find(|layer| layer.replace('.', "_") == flat).map(str::to_owned)
}

enum Whose {
    Bfl,
    Diffusers,
}

impl Whose {
    fn names(self, layers: &'static [Layer]) -> impl Iterator<Item = &'static str> {
        let bfl = matches!(self, Self::Bfl);
        layers.iter().flat_map(move |(name, parts)| if bfl { std::slice::from_ref(name) } else { parts }).copied()
    }
}

/// The blocks that a name belongs to, their number, and the name within.
fn split<'a>(name: &'a str, own: impl Fn(&Blocks) -> &'static str) -> Option<(&'static Blocks, usize, &'a str)> {
    let blocks = [&DOUBLE, &SINGLE].into_iter().find(|blocks| name.strip_prefix(own(blocks)).is_some_and(|rest| rest.starts_with('.')))?;
    let (number, inner) = name[own(blocks).len() + 1..].split_once('.')?;
    Some((blocks, number.parse().ok()?, inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_name_leads_to_the_other() {
        for blocks in [&DOUBLE, &SINGLE] {
            for (bfl, parts) in blocks.layers {
                let fused = Fused::named(&format!("{}.7.{bfl}", blocks.bfl)).unwrap();
                assert_eq!(fused.parts.len(), parts.len());
                for (index, part) in fused.parts.iter().enumerate() {
                    assert_eq!(Fused::holding(part), Some((fused.clone(), index)));
                    assert_eq!(unflattened(&part.replace('.', "_")).as_ref(), Some(part));
                }
                assert_eq!(unflattened(&fused.name.replace('.', "_")), Some(fused.name));
            }
        }
        for (bfl, parts) in OUTER {
            assert_eq!(Fused::holding(parts[0]).unwrap(), (Fused::named(bfl).unwrap(), 0));
        }
        assert_eq!(norm("single_transformer_blocks.2.attn.norm_k.weight").unwrap(), "single_blocks.2.norm.key_norm.scale");
        assert_eq!((Fused::named("double_blocks.x.img_mlp.0"), unflattened("double_blocks_1_nothing")), (None, None));
    }

    #[test]
    fn parts_divide_the_rows() {
        let rows = |name: &str, out, inner| Fused::named(name).unwrap().rows(out, inner);
        assert_eq!(rows("double_blocks.0.img_attn.qkv", 12, 4).unwrap(), [vec![0..4], vec![4..8], vec![8..12]]);
        assert_eq!(rows("single_blocks.0.linear1", 28, 4).unwrap(), [vec![0..4], vec![4..8], vec![8..12], vec![12..28]]);
        assert_eq!(rows("final_layer.adaLN_modulation.1", 8, 4).unwrap(), [vec![4..8, 0..4]]);
        assert_eq!((rows("single_blocks.0.linear1", 12, 4), rows("double_blocks.0.txt_attn.qkv", 8, 4)), (None, None));
    }
}
