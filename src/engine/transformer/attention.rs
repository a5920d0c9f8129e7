//! Attention over all tokens, from packed queries, keys and values (`FluxAttnProcessor`).

use super::{Config, Layers, block::Context};
use crate::{
    Result,
    checkpoint::Keys,
    linear::Linear,
    ops::{self, Attended, QkNormRope},
};
use candle_core::Tensor;

/// One stream's projection to queries, keys and values side by side, and the weights that norm queries and keys.
pub struct Qkv {
    pub project: Linear,
    /// Of q and of k, [D] each.
    norms: [Tensor; 2],
    heads: usize,
}

impl Qkv {
    pub fn load(keys: &Keys, qkv: [&str; 3], norms: [&str; 2], config: &Config, layers: &mut Layers) -> Result<Self> {
        let (dim, head) = (config.inner_dim(), config.attention_head_dim);
        let [norm_q, norm_k] = norms.map(|name| keys.at(name).take_f32("weight", &[head]));
        Ok(Self {
            project: layers.fused(&qkv.map(|name| keys.at(name)), &[dim], dim)?,
            norms: [norm_q?, norm_k?],
            heads: config.num_attention_heads,
        })
    }
}

/// Attention of text and picture, whose projections may be the same.
pub struct Attention<'a> {
    with: QkNormRope<'a>,
    heads: usize,
    keeps: bool,
}

/// From the projection to what attention leaves.
pub struct Inside {
    /// Before norm and rotation, if a backward pass will come.
    projected: Option<Tensor>,
    /// [B, S, 3, H, D]
    turned: Tensor,
    pub attended: Attended,
}

impl<'a> Attention<'a> {
    pub fn new(text: &'a Qkv, picture: &'a Qkv, context: &Context<'a>) -> Self {
        let (text_tokens, rope) = (context.positions.text_tokens, &context.positions.rope);
        let with = QkNormRope { text: text.norms.each_ref(), picture: picture.norms.each_ref(), text_tokens, rope };
        Self { with, heads: picture.heads, keeps: context.keeps }
    }

    /// qkv: [B, text + picture, 3·C], which is nobody else's.
    pub fn forward(&self, qkv: Tensor, known: Option<Attended>) -> Result<Inside> {
        let (b, s, width) = qkv.dims3()?;
        let projected = qkv.reshape((b, s, 3, self.heads, width / 3 / self.heads))?;
        let turned = if self.keeps {
            ops::qk_norm_rope(&projected, self.with)?
        } else {
            ops::qk_norm_rope_in_place(&projected, self.with)?;
            projected.clone()
        };
        let attended = known.map_or_else(|| ops::packed_attention(&turned, self.keeps), Ok)?;
        Ok(Inside { projected: self.keeps.then_some(projected), turned, attended })
    }

    /// The gradient of the projection, [B, S, 3·C]. g: [B, S, C]
    pub fn backward(&self, inside: &Inside, g: &Tensor) -> Result<Tensor> {
        let projected = inside.projected.as_ref().expect("kept for a backward pass");
        let dturned = ops::packed_attention_gradient(&inside.turned, &inside.attended, g)?;
        Ok(ops::qk_norm_rope_gradient(projected, dturned, self.with)?.flatten_from(2)?)
    }
}
