//! A double block (`FluxTransformerBlock`): text and picture keep their own weights and meet in attention.

use super::{
    Config, Layers,
    attention::{self, Attention, Qkv},
    block::{Block, Context, Entering, Flowed, Pass},
    feed_forward::{self, FeedForward},
    modulation::Modulation,
};
use crate::{
    Result,
    checkpoint::Keys,
    linear::{Linear, LinearId},
    ops::{self, Activation, Attended},
};
use candle_core::Tensor;
use std::ops::Range;

/// Two of everything: the text's, then the picture's.
type Both<T> = [T; 2];

pub struct DoubleBlock {
    streams: Both<Stream>,
    ids: Range<LinearId>,
}

/// The weights of one stream.
struct Stream {
    norm: Linear,
    qkv: Qkv,
    to_out: Linear,
    feed_forward: FeedForward,
}

pub struct Inside {
    /// What the projections read.
    x: Both<Activation>,
    attention: attention::Inside,
    /// The states between attention and feed-forward.
    middle: Both<Tensor>,
    feed_forward: Both<feed_forward::Inside>,
}

impl DoubleBlock {
    pub fn load(keys: &Keys, config: &Config, layers: &mut Layers) -> Result<Self> {
        let start = layers.next_id();
        let picture = Stream::load(keys, &Names::PICTURE, config, layers)?;
        let text = Stream::load(keys, &Names::TEXT, config, layers)?;
        Ok(Self { streams: [text, picture], ids: start..layers.next_id() })
    }

    fn attention<'a>(&'a self, context: &Context<'a>) -> Attention<'a> {
        Attention::new(&self.streams[0].qkv, &self.streams[1].qkv, context)
    }

    /// Both streams' queries, keys and values in one tensor: [B, text + picture, 3·C].
    fn project(&self, x: &Both<Activation>, state: &Both<Tensor>, context: &Context) -> Result<Tensor> {
        let (b, text_tokens, width) = state[0].dims3()?;
        let joint = ops::to_be_written((b, text_tokens + state[1].dim(1)?, 3 * width), &state[0])?;
        for (i, out) in parts(&joint, text_tokens)?.iter().enumerate() {
            self.streams[i].qkv.project.forward_into(out, &x[i], context.paths)?;
        }
        Ok(joint)
    }
}

impl Block for DoubleBlock {
    /// [B, tokens, C] each.
    type State = Both<Tensor>;
    type Inside = Inside;

    fn ids(&self) -> &Range<LinearId> {
        &self.ids
    }

    fn norms(&self) -> Vec<&Linear> {
        self.streams.iter().map(|stream| &stream.norm).collect()
    }

    fn inside(&self, entering: &Entering<Both<Tensor>>, context: &Context, attended: Option<Attended>) -> Result<Inside> {
        let (streams, state, modulations) = (&self.streams, &entering.state, modulations(entering)?);
        let x = both(|i| modulations[i][0].norm(&state[i], streams[i].qkv.project.reads(context.paths)))?;
        let attention = self.attention(context).forward(self.project(&x, state, context)?, attended)?;
        let attended = parts(&attention.attended.out, state[0].dim(1)?)?;
        let middle = both(|i| modulations[i][0].add_gated(&state[i], &streams[i].to_out.forward(&(&attended[i]).into(), context.paths)?))?;
        let feed_forward = both(|i| streams[i].feed_forward.inside(&middle[i], &modulations[i][1], context))?;
        Ok(Inside { x, attention, middle, feed_forward })
    }

    fn leave(&self, entering: &Entering<Both<Tensor>>, inside: &Inside, context: &Context) -> Result<Both<Tensor>> {
        let modulations = modulations(entering)?;
        let feed_forward = |i: usize| &self.streams[i].feed_forward;
        both(|i| feed_forward(i).leave(&inside.middle[i], &inside.feed_forward[i], &modulations[i][1], context))
    }

    fn attended(inside: &Inside) -> &Attended {
        &inside.attention.attended
    }

    fn backward(&self, entering: &Entering<Both<Tensor>>, inside: &Inside, g: Both<Tensor>, pass: &Pass) -> Result<Flowed<Both<Tensor>>> {
        let (streams, state, modulations) = (&self.streams, &entering.state, modulations(entering)?);
        let (Pass { context, gradients, .. }, paths, text_tokens) = (pass, pass.context.paths, state[0].dim(1)?);
        let attended = parts(&inside.attention.attended.out, text_tokens)?;

        let above = both(|i| {
            let feed_forward = &streams[i].feed_forward;
            feed_forward.backward(&inside.middle[i], &inside.feed_forward[i], &modulations[i][1], &g[i], pass)
        })?;
        let dmiddle = |i: usize| &above[i].0;
        let dattended = both(|i| {
            let g = modulations[i][0].gate_backward(dmiddle(i))?;
            streams[i].to_out.backward(&(&attended[i]).into(), &g, None, paths, gradients)
        })?;
        let dqkv = self.attention(context).backward(&inside.attention, &Tensor::cat(&dattended, 1)?)?;
        let dqkv = parts(&dqkv, text_tokens)?;
        let dx = both(|i| streams[i].qkv.project.backward(&inside.x[i], &dqkv[i], None, paths, gradients))?;

        let dmodulations = |i: usize| {
            let y = streams[i].to_out.forward(&(&attended[i]).into(), paths)?;
            let of_attention = Modulation::gradient((&state[i], &dx[i]), (&y, dmiddle(i)))?;
            Ok(Tensor::cat(&[&of_attention, above[i].1.as_ref().expect("wanted too")], 1)?)
        };
        Ok(Flowed {
            state: pass.wants_state.then(|| both(|i| modulations[i][0].norm_backward(&state[i], &dx[i], dmiddle(i)))).transpose()?,
            modulations: if pass.wants_modulations { both(dmodulations)?.into() } else { Vec::new() },
        })
    }
}

fn both<T>(f: impl Fn(usize) -> Result<T>) -> Result<Both<T>> {
    Ok([f(0)?, f(1)?])
}

/// The text's and the picture's tokens.
fn parts(joint: &Tensor, text_tokens: usize) -> Result<Both<Tensor>> {
    Ok([joint.narrow(1, 0, text_tokens)?, joint.narrow(1, text_tokens, joint.dim(1)? - text_tokens)?])
}

/// Of each stream, for attention and for the feed-forward.
fn modulations(entering: &Entering<Both<Tensor>>) -> Result<Both<[Modulation; 2]>> {
    both(|i| Modulation::split(&entering.modulations[i]))
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

impl Stream {
    fn load(keys: &Keys, names: &Names, config: &Config, layers: &mut Layers) -> Result<Self> {
        let dim = config.inner_dim();
        Ok(Self {
            norm: layers.modulation(&keys.at(names.norm), dim, 6 * dim)?,
            qkv: Qkv::load(keys, names.qkv, [names.norm_q, names.norm_k], config, layers)?,
            to_out: layers.linear(&keys.at(names.to_out), dim, dim)?,
            feed_forward: FeedForward::load(&keys.at(names.ff), config, layers)?,
        })
    }
}
