//! A second transformer in `ops::plain`, which shares nothing with the engine's but the weights: candle's own backward pass runs through it.

use crate::fixtures::{Call, MODEL};
use candle_core::{DType, Device, Tensor, Var};
use engine::{
    ops::{Rope, plain},
    transformer::Config,
};
use std::{collections::HashMap, path::Path};

const EPSILON: f64 = 1e-6;

pub struct PlainTransformer {
    config: Config,
    weights: HashMap<String, Tensor>,
    /// A and B by module path.
    pairs: HashMap<String, [Var; 2]>,
}

impl PlainTransformer {
    pub fn new(pairs: HashMap<String, [Var; 2]>) -> Self {
        let folder = Path::new(MODEL).join("transformer");
        let config = serde_json::from_str(&std::fs::read_to_string(folder.join("config.json")).unwrap()).unwrap();
        let weights = candle_core::safetensors::load(folder.join("diffusion_pytorch_model.safetensors"), &Device::Cpu).unwrap();
        let weights = weights.into_iter().map(|(key, weight)| (key, weight.to_dtype(DType::F32).unwrap())).collect();
        Self { config, weights, pairs }
    }

    pub fn forward(&self, call: &Call) -> Tensor {
        let conditioning = call.conditioning.repeat(call.sigma.len()).unwrap();
        let vector = self.vector(call, &conditioning.pooled);
        let text_tokens = conditioning.tokens.dim(1).unwrap();
        let rope = Rope::new(text_tokens, call.size, &self.config.axes_dims_rope, &Device::Cpu).unwrap();
        let mut picture = self.linear("x_embedder", &call.latents.0);
        let mut text = self.linear("context_embedder", &conditioning.tokens);
        for i in 0..self.config.num_layers {
            (picture, text) = self.double(&format!("transformer_blocks.{i}"), &picture, &text, &vector, &rope);
        }
        let mut joint = cat(&text, &picture);
        for i in 0..self.config.num_single_layers {
            joint = self.single(&format!("single_transformer_blocks.{i}"), &joint, &vector, &rope);
        }
        let picture = joint.narrow(1, text_tokens, call.size.tokens()).unwrap();
        let modulation = self.linear("norm_out.linear", &vector).chunk(2, 1).unwrap();
        self.linear("proj_out", &plain::layer_norm_modulate(&picture, &modulation[1], &modulation[0], EPSILON).unwrap())
    }

    fn linear(&self, path: &str, x: &Tensor) -> Tensor {
        let weight = |name: &str| &self.weights[&format!("{path}.{name}")];
        let y = plain::linear(x, weight("weight"), Some(weight("bias"))).unwrap();
        match self.pairs.get(path) {
            Some([a, b]) => plain::add_lora(&y, x, a, b, 1.0).unwrap(),
            None => y,
        }
    }

    /// After the SiLU of the modulations.
    fn vector(&self, call: &Call, pooled: &Tensor) -> Tensor {
        let mlp = |name: &str, x: &Tensor| {
            let path = |layer: &str| format!("time_text_embed.{name}.{layer}");
            self.linear(&path("linear_2"), &self.linear(&path("linear_1"), x).silu().unwrap())
        };
        let time = mlp("timestep_embedder", &sinusoids(&call.sigma));
        let guidance = mlp("guidance_embedder", &sinusoids(&call.guidance));
        (time + guidance).and_then(|sum| sum + mlp("text_embedder", pooled)).unwrap().silu().unwrap()
    }

    /// Queries, keys and values of some tokens: normalised, turned.
    fn qkv(&self, x: &Tensor, layers: [&str; 3], norms: [&str; 2], rope: &Rope) -> [Tensor; 3] {
        let (b, s, c) = x.dims3().unwrap();
        let heads = self.config.num_attention_heads;
        let project = |path: &str| self.linear(path, x).reshape((b, s, heads, c / heads)).unwrap();
        let turn = |x: Tensor, norm: &str| {
            plain::rms_norm_rope(&x, &self.weights[&format!("{norm}.weight")], &rope.cos, &rope.sin, EPSILON).unwrap()
        };
        [turn(project(layers[0]), norms[0]), turn(project(layers[1]), norms[1]), project(layers[2])]
    }

    fn double(&self, path: &str, picture: &Tensor, text: &Tensor, vector: &Tensor, rope: &Rope) -> (Tensor, Tensor) {
        let at = |name: &str| format!("{path}.{name}");
        let modulation = |name: &str| self.linear(&at(name), vector).chunk(6, 1).unwrap();
        let (of_picture, of_text) = (modulation("norm1.linear"), modulation("norm1_context.linear"));
        let part = |first: usize, count: usize| Rope {
            cos: rope.cos.narrow(0, first, count).unwrap(),
            sin: rope.sin.narrow(0, first, count).unwrap(),
        };
        let (text_tokens, tokens) = (text.dim(1).unwrap(), picture.dim(1).unwrap());
        let names = ["attn.to_q", "attn.to_k", "attn.to_v", "attn.norm_q", "attn.norm_k"].map(at);
        let [q, k, v, norm_q, norm_k] = names.each_ref().map(String::as_str);
        let ours = self.qkv(&norm(picture, &of_picture), [q, k, v], [norm_q, norm_k], &part(text_tokens, tokens));
        let names = ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.norm_added_q", "attn.norm_added_k"].map(at);
        let [q, k, v, norm_q, norm_k] = names.each_ref().map(String::as_str);
        let theirs = self.qkv(&norm(text, &of_text), [q, k, v], [norm_q, norm_k], &part(0, text_tokens));
        let [q, k, v] = [0, 1, 2].map(|i| cat(&theirs[i], &ours[i]));
        let attended = plain::attention(&q, &k, &v).unwrap();
        let leave = |x: &Tensor, modulation: &[Tensor], first: usize, to_out: &str, ff: &str| {
            let attended = attended.narrow(1, first, x.dim(1).unwrap()).unwrap();
            let x = plain::gate_residual(x, &modulation[2], &self.linear(&at(to_out), &attended)).unwrap();
            let hidden = self.linear(&at(&format!("{ff}.0.proj")), &norm(&x, &modulation[3..])).gelu().unwrap();
            plain::gate_residual(&x, &modulation[5], &self.linear(&at(&format!("{ff}.2")), &hidden)).unwrap()
        };
        (leave(picture, &of_picture, text_tokens, "attn.to_out.0", "ff.net"), leave(text, &of_text, 0, "attn.to_add_out", "ff_context.net"))
    }

    fn single(&self, path: &str, joint: &Tensor, vector: &Tensor, rope: &Rope) -> Tensor {
        let at = |name: &str| format!("{path}.{name}");
        let modulation = self.linear(&at("norm.linear"), vector).chunk(3, 1).unwrap();
        let x = norm(joint, &modulation);
        let names = ["attn.to_q", "attn.to_k", "attn.to_v", "attn.norm_q", "attn.norm_k"].map(at);
        let [q, k, v, norm_q, norm_k] = names.each_ref().map(String::as_str);
        let [q, k, v] = self.qkv(&x, [q, k, v], [norm_q, norm_k], rope);
        let both = [plain::attention(&q, &k, &v).unwrap(), self.linear(&at("proj_mlp"), &x).gelu().unwrap()];
        let y = self.linear(&at("proj_out"), &Tensor::cat(&both, 2).unwrap());
        plain::gate_residual(joint, &modulation[2], &y).unwrap()
    }
}

/// Shift and scale are the first two.
fn norm(x: &Tensor, modulation: &[Tensor]) -> Tensor {
    plain::layer_norm_modulate(x, &modulation[0], &modulation[1], EPSILON).unwrap()
}

fn cat(text: &Tensor, picture: &Tensor) -> Tensor {
    Tensor::cat(&[text, picture], 1).unwrap()
}

fn sinusoids(values: &[f64]) -> Tensor {
    let angle = |value: f64, i: usize| 1000.0 * value * 10_000f64.powf(-((i % 128) as f64) / 128.0);
    let value = |value: f64, i: usize| if i < 128 { angle(value, i).cos() } else { angle(value, i).sin() };
    let all: Vec<f32> = values.iter().flat_map(|&x| (0..256).map(move |i| value(x, i) as f32)).collect();
    Tensor::from_vec(all, (values.len(), 256), &Device::Cpu).unwrap()
}
