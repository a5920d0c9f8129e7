//! A double block (`FluxTransformerBlock`): text and picture keep their own weights and meet in attention.

use super::{Config, Layers, join, modulation::Modulation, positions::Positions, qkv::Qkv};
use crate::{
    AdapterSet, Result,
    checkpoint::Keys,
    linear::{Linear, LinearId},
    ops,
};
use candle_core::Tensor;
use std::ops::Range;

pub struct DoubleBlock {
    picture: Stream,
    text: Stream,
    pub ids: Range<LinearId>,
}

impl DoubleBlock {
    pub fn load(keys: &Keys, config: &Config, layers: &mut Layers) -> Result<Self> {
        let start = layers.next_id();
        let picture = Stream::load(keys, &Names::PICTURE, config, layers)?;
        let text = Stream::load(keys, &Names::TEXT, config, layers)?;
        Ok(Self { picture, text, ids: start..layers.next_id() })
    }

    /// picture: [B, tokens, C], text: [B, text, C], vector: [B, C] → (picture, text)
    pub fn forward(
        &self,
        picture: &Tensor,
        text: &Tensor,
        vector: &Tensor,
        positions: &Positions,
        adapters: &AdapterSet,
    ) -> Result<(Tensor, Tensor)> {
        let [picture_attn, picture_ff] = Modulation::from_vector(&self.picture.norm, vector, adapters)?;
        let [text_attn, text_ff] = Modulation::from_vector(&self.text.norm, vector, adapters)?;

        let [pq, pk, pv] = self.picture.qkv.forward(&picture_attn.norm(picture)?, &positions.picture, adapters)?;
        let [tq, tk, tv] = self.text.qkv.forward(&text_attn.norm(text)?, &positions.text, adapters)?;
        let attended = ops::attention(&join(&tq, &pq)?, &join(&tk, &pk)?, &join(&tv, &pv)?)?;
        let (text_tokens, tokens) = (text.dim(1)?, picture.dim(1)?);
        let to_picture = attended.narrow(1, text_tokens, tokens)?;
        let to_text = attended.narrow(1, 0, text_tokens)?;

        let picture = picture_attn.add_gated(picture, &self.picture.to_out.forward(&to_picture, adapters)?)?;
        let text = text_attn.add_gated(text, &self.text.to_out.forward(&to_text, adapters)?)?;
        Ok((self.picture.feed_forward(&picture, &picture_ff, adapters)?, self.text.feed_forward(&text, &text_ff, adapters)?))
    }
}

/// The checkpoint's names for the layers of one stream.
struct Names {
    norm: &'static str,
    qkv: [&'static str; 3],
    norm_q: &'static str,
    norm_k: &'static str,
    to_out: &'static str,
    ff: &'static str,
}

impl Names {
    const PICTURE: Self = Self {
        norm: "norm1.linear",
        qkv: ["attn.to_q", "attn.to_k", "attn.to_v"],
        norm_q: "attn.norm_q",
        norm_k: "attn.norm_k",
        to_out: "attn.to_out.0",
        ff: "ff.net",
    };
    const TEXT: Self = Self {
        norm: "norm1_context.linear",
        qkv: ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"],
        norm_q: "attn.norm_added_q",
        norm_k: "attn.norm_added_k",
        to_out: "attn.to_add_out",
        ff: "ff_context.net",
    };
}

/// The weights of one stream, text or picture.
struct Stream {
    norm: Linear,
    qkv: Qkv,
    to_out: Linear,
    ff_in: Linear,
    ff_out: Linear,
}

impl Stream {
    fn load(keys: &Keys, names: &Names, config: &Config, layers: &mut Layers) -> Result<Self> {
        let (dim, mlp) = (config.inner_dim(), config.mlp_dim());
        Ok(Self {
            norm: layers.linear(&keys.at(names.norm), dim, 6 * dim)?,
            qkv: Qkv::load(keys, names.qkv, [names.norm_q, names.norm_k], config, layers)?,
            to_out: layers.linear(&keys.at(names.to_out), dim, dim)?,
            ff_in: layers.linear(&keys.at(names.ff).at("0.proj"), dim, mlp)?,
            ff_out: layers.linear(&keys.at(names.ff).at("2"), mlp, dim)?,
        })
    }

    fn feed_forward(&self, x: &Tensor, modulation: &Modulation, adapters: &AdapterSet) -> Result<Tensor> {
        let hidden = ops::gelu(&self.ff_in.forward(&modulation.norm(x)?, adapters)?)?;
        modulation.add_gated(x, &self.ff_out.forward(&hidden, adapters)?)
    }
}
