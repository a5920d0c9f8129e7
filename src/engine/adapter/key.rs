//! A key of an adapter file: which layer it speaks of, in whose names, and what it is of that layer.

use super::{Axis, TEXT_ENCODER};
use crate::bfl::{self, Fused};

/// What a tensor is of its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Down,
    Up,
    Alpha,
    /// LyCORIS' learnt factor of ΔW.
    Scalar,
    /// DoRA's lengths; over which axis, their shape says, except where both are as long.
    Magnitude(Square),
    Hada1a,
    Hada1b,
    Hada2a,
    Hada2b,
    Lokr1,
    Lokr1a,
    Lokr1b,
    Lokr2,
    Lokr2a,
    Lokr2b,
    Whole,
}

/// The axis of lengths that fit both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Square {
    /// PEFT knows no other.
    Outputs,
    /// [out, 1] or [1, in]: the shape says.
    AsShaped,
}

impl Square {
    /// The axis of lengths of this shape on a layer of (out, in).
    pub fn axis(self, dims: &[usize], (outputs, inputs): (usize, usize)) -> Option<Axis> {
        let count: usize = dims.iter().product();
        match (self, dims) {
            (Self::AsShaped, [1, _]) if count == inputs => Some(Axis::Inputs),
            _ if count == outputs => Some(Axis::Outputs),
            (Self::AsShaped, _) if count == inputs => Some(Axis::Inputs),
            _ => None,
        }
    }
}

/// How the keys of a tensor end. The longer of two that fit stands first.
const ENDS: [(&str, Role); 31] = [
    (".lora_A.weight", Role::Down),
    (".lora_B.weight", Role::Up),
    (".lora_A.default.weight", Role::Down),
    (".lora_B.default.weight", Role::Up),
    (".lora_down.weight", Role::Down),
    (".lora_up.weight", Role::Up),
    (".lora_linear_layer.down.weight", Role::Down),
    (".lora_linear_layer.up.weight", Role::Up),
    (".lora.down.weight", Role::Down),
    (".lora.up.weight", Role::Up),
    (".down.weight", Role::Down),
    (".up.weight", Role::Up),
    (".lora_magnitude_vector.default.weight", Role::Magnitude(Square::Outputs)),
    (".lora_magnitude_vector.weight", Role::Magnitude(Square::Outputs)),
    (".lora_magnitude_vector.default", Role::Magnitude(Square::Outputs)),
    (".lora_magnitude_vector", Role::Magnitude(Square::Outputs)),
    (".dora_scale", Role::Magnitude(Square::AsShaped)),
    (".alpha", Role::Alpha),
    (".scalar", Role::Scalar),
    (".hada_w1_a", Role::Hada1a),
    (".hada_w1_b", Role::Hada1b),
    (".hada_w2_a", Role::Hada2a),
    (".hada_w2_b", Role::Hada2b),
    (".lokr_w1", Role::Lokr1),
    (".lokr_w1_a", Role::Lokr1a),
    (".lokr_w1_b", Role::Lokr1b),
    (".lokr_w2", Role::Lokr2),
    (".lokr_w2_a", Role::Lokr2a),
    (".lokr_w2_b", Role::Lokr2b),
    (".diff", Role::Whole),
    (".diff.weight", Role::Whole),
];

/// How keys end that cannot be followed, and why.
const REFUSED: [(&str, &str); 9] = [
    ("lora_B.bias", "a bias beside a LoRA pair (BFL's control adapters) is not added"),
    (".diff_b", "a change of a bias is not added"),
    (".lora_mid.weight", "a Tucker factor belongs to a convolution, and FLUX.1 has none"),
    ("_t1", "a Tucker factor belongs to a convolution, and FLUX.1 has none"),
    ("_t2", "a Tucker factor belongs to a convolution, and FLUX.1 has none"),
    (".w_norm", "a change of a norm is not added"),
    (".b_norm", "a change of a norm is not added"),
    ("_norm.scale", "a changed norm (BFL's control adapters) is not taken"),
    (".set_weight", "a weight that replaces another is not taken"),
];

/// A key as far as its own text tells.
pub struct Key<'a> {
    /// The layer as the file calls it.
    pub module: &'a str,
    pub role: Role,
}

impl<'a> Key<'a> {
    /// Or why it cannot be followed.
    pub fn parse(key: &'a str) -> Result<Self, String> {
        if let Some((module, role)) = ENDS.iter().find_map(|(end, role)| Some((key.strip_suffix(end)?, *role))) {
            return Ok(Self { module, role });
        }
        let known = REFUSED.iter().find(|(end, _)| key.ends_with(end));
        Err(known.map_or("no part of a LoRA, LoHa, LoKr or DoRA adapter", |(_, reason)| reason).into())
    }
}

/// Who writes layers so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layout {
    Diffusers,
    Kohya,
    ComfyUi,
    OneTrainer,
    XLabs,
    RawPeft,
    LyCoris,
    /// Names without a prefix.
    Bare,
}

impl Layout {
    pub fn name(self) -> &'static str {
        match self {
            Self::Diffusers => "diffusers",
            Self::Kohya => "kohya",
            Self::ComfyUi => "ComfyUI",
            Self::OneTrainer => "OneTrainer",
            Self::XLabs => "XLabs",
            Self::RawPeft => "raw PEFT",
            Self::LyCoris => "LyCORIS",
            Self::Bare => "bare names",
        }
    }
}

/// Where a layer of a file belongs.
#[derive(Debug, PartialEq, Eq)]
pub enum Home {
    /// A layer of diffusers' transformer by its path, or of CLIP by `text_encoder.` and its path.
    Layer(String),
    /// Several, or one whose rows stand in another order.
    Fused(Fused),
    /// Only this part of several: a file may give the parts one by one.
    Part(Fused, usize),
    /// The first parts: XLabs adapts q, k and v of a single block, but not the MLP beside them.
    First(Fused, usize),
}

const CLIP: [&str; 7] = [
    "text_encoder.",
    "text_encoders.clip_l.transformer.",
    "text_encoders.clip_l.",
    "clip_l.transformer.",
    "clip_l.",
    "lora_te1_",
    "lora_te_",
];
const T5: [&str; 7] =
    ["text_encoder_2.", "text_encoders.t5xxl.transformer.", "text_encoders.t5xxl.", "t5xxl.", "t5.", "lora_te2_", "lora_te3_"];

/// Where the layer that a file calls `module` belongs, and who writes so; or why there is no such place.
pub fn home(module: &str) -> Result<(Home, Layout), String> {
    if T5.iter().any(|prefix| module.starts_with(prefix)) {
        return Err("it belongs to T5, which takes no adapters here, nor in diffusers or ComfyUI".into());
    }
    let layout = layout(module);
    let inner = module.strip_prefix("base_model.model.").unwrap_or(module);
    if let Some(path) = CLIP.iter().find_map(|prefix| inner.strip_prefix(prefix)) {
        return Ok((Home::Layer(clip(path).ok_or("CLIP has no such layer")?), layout));
    }
    let prefixes = ["transformer.", "model.diffusion_model.", "diffusion_model.", "unet."];
    let path = prefixes.iter().find_map(|prefix| inner.strip_prefix(prefix)).unwrap_or(inner);
    let flat = ["lora_unet_", "lora_transformer_", "lycoris_"].iter().find_map(|prefix| path.strip_prefix(prefix));
    let home = match flat {
        Some(flat) => named(&bfl::unflattened(flat).ok_or("FLUX.1 has no such layer")?),
        None => xlabs(path).unwrap_or_else(|| named(path)),
    };
    Ok((home, layout))
}

fn layout(module: &str) -> Layout {
    let starts = |prefix: &str| module.starts_with(prefix);
    match module {
        _ if module.contains(".processor.") => Layout::XLabs,
        _ if starts("base_model.") => Layout::RawPeft,
        _ if starts("lora_unet_") || starts("lora_te") => Layout::Kohya,
        _ if starts("lora_transformer_") || starts("transformer.double_blocks") || starts("transformer.single_blocks") => {
            Layout::OneTrainer
        }
        _ if starts("lycoris_") => Layout::LyCoris,
        _ if starts("diffusion_model.") || starts("model.diffusion_model.") || starts("text_encoders.") => Layout::ComfyUi,
        _ if starts("transformer.") || starts("text_encoder.") => Layout::Diffusers,
        _ => Layout::Bare,
    }
}

/// A dotted path by BFL's names or by diffusers'.
fn named(path: &str) -> Home {
    if let Some(fused) = Fused::named(path) {
        return Home::Fused(fused);
    }
    // OneTrainer gives the parts of a fused layer one by one: `….qkv.0`, `….linear1.3`.
    if let Some((whole, index)) = path.rsplit_once('.')
        && let (Some(fused), Ok(index)) = (Fused::named(whole), index.parse::<usize>())
        && index < fused.parts.len()
    {
        return Home::Part(fused, index);
    }
    Home::Layer(path.to_owned())
}

/// `double_blocks.0.processor.qkv_lora1`: 1 is the picture's, 2 the text's; `single_blocks.0.processor.proj_lora` is a single block's.
fn xlabs(path: &str) -> Option<Home> {
    let (block, layer) = path.split_once(".processor.")?;
    let (inner, first) = match layer {
        "qkv_lora1" => ("img_attn.qkv", None),
        "qkv_lora2" => ("txt_attn.qkv", None),
        "proj_lora1" => ("img_attn.proj", None),
        "proj_lora2" => ("txt_attn.proj", None),
        "qkv_lora" => ("linear1", Some(3)),
        "proj_lora" => ("linear2", None),
        _ => return None,
    };
    let fused = Fused::named(&format!("{block}.{inner}"))?;
    Some(match first {
        Some(count) => Home::First(fused, count),
        None => Home::Fused(fused),
    })
}

/// `text_encoder.text_model.encoder.layers.3.self_attn.q_proj`, from there with dots or underscores, with `text_model` or without.
fn clip(path: &str) -> Option<String> {
    const LAYERS: [&str; 6] = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2"];
    let flat = path.replace('.', "_");
    let inner = flat.strip_prefix("text_model_").unwrap_or(&flat).strip_prefix("encoder_layers_")?;
    let (number, layer) = inner.split_once('_')?;
    let layer = LAYERS.iter().find(|name| name.replace('.', "_") == layer)?;
    Some(format!("{TEXT_ENCODER}text_model.encoder.layers.{}.{layer}", number.parse::<usize>().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(module: &str) -> (String, Layout) {
        match home(module).unwrap() {
            (Home::Layer(path), layout) => (path, layout),
            other => panic!("{module}: {other:?}"),
        }
    }

    #[test]
    fn layers_by_the_names_of_all_who_write_them() {
        let q = "transformer_blocks.3.attn.to_q";
        for (module, layout) in [
            ("transformer.transformer_blocks.3.attn.to_q", Layout::Diffusers),
            ("base_model.model.transformer_blocks.3.attn.to_q", Layout::RawPeft),
            ("lora_transformer_transformer_blocks_3_attn_to_q", Layout::OneTrainer),
            ("lycoris_transformer_blocks_3_attn_to_q", Layout::LyCoris),
            ("transformer_blocks.3.attn.to_q", Layout::Bare),
        ] {
            assert_eq!(layer(module), (q.into(), layout));
        }
        let clip = "text_encoder.text_model.encoder.layers.7.mlp.fc1";
        for module in [
            clip,
            "text_encoder.encoder.layers.7.mlp.fc1",
            "lora_te1_text_model_encoder_layers_7_mlp_fc1",
            "text_encoders.clip_l.transformer.text_model.encoder.layers.7.mlp.fc1",
        ] {
            assert_eq!(layer(module).0, clip);
        }
        assert!(home("lora_te3_encoder_block_0_layer_0_SelfAttention_q").unwrap_err().contains("T5"));
        assert!(home("lora_unet_input_blocks_1").unwrap_err().contains("no such layer"));
    }

    #[test]
    fn fused_layers_and_their_parts() {
        let qkv = Fused::named("double_blocks.3.img_attn.qkv").unwrap();
        for module in [
            "lora_unet_double_blocks_3_img_attn_qkv",
            "diffusion_model.double_blocks.3.img_attn.qkv",
            "double_blocks.3.processor.qkv_lora1",
        ] {
            assert_eq!(home(module).unwrap().0, Home::Fused(qkv.clone()), "{module}");
        }
        assert_eq!(home("transformer.double_blocks.3.img_attn.qkv.2").unwrap(), (Home::Part(qkv, 2), Layout::OneTrainer));
        let linear1 = Fused::named("single_blocks.0.linear1").unwrap();
        assert_eq!(home("single_blocks.0.processor.qkv_lora").unwrap().0, Home::First(linear1, 3));
    }

    #[test]
    fn the_longest_ending_counts() {
        let role = |key| Key::parse(key).map(|key| (key.module, key.role));
        assert_eq!(role("a.lokr_w2_a"), Ok(("a", Role::Lokr2a)));
        assert_eq!(role("a.qkv_lora1.down.weight"), Ok(("a.qkv_lora1", Role::Down)));
        assert_eq!(role("a.lora.up.weight"), Ok(("a", Role::Up)));
        assert!(role("a.lora_B.bias").unwrap_err().contains("control"));
        assert!(role("a.weight").is_err());
    }
}
