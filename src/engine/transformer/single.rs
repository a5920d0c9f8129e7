//! A single block (`FluxSingleTransformerBlock`): text and picture share weights; attention and MLP run side by side.

use super::{
    Config, Layers,
    attention::{self, Attention, Qkv},
    block::{Block, Context, Entering, Flowed, Pass},
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

pub struct SingleBlock {
    norm: Linear,
    qkv: Qkv,
    proj_mlp: Linear,
    /// Reads what attention left and the MLP's hidden values, side by side in the checkpoint's weight.
    proj_out: Linear,
    ids: Range<LinearId>,
}

pub struct Inside {
    /// [B, S, C]
    x: Activation,
    attention: attention::Inside,
    /// [B, S, 4·C], if a backward pass will come.
    before_gelu: Option<Tensor>,
    hidden: Activation,
}

impl SingleBlock {
    pub fn load(keys: &Keys, config: &Config, layers: &mut Layers) -> Result<Self> {
        let (dim, mlp, start) = (config.inner_dim(), config.mlp_dim(), layers.next_id());
        let norm = layers.modulation(&keys.at("norm.linear"), dim, 3 * dim)?;
        let qkv = Qkv::load(&keys.at("attn"), ["to_q", "to_k", "to_v"], ["norm_q", "norm_k"], config, layers)?;
        let proj_mlp = layers.linear(&keys.at("proj_mlp"), dim, mlp)?;
        let proj_out = layers.fused(&[keys.at("proj_out")], &[dim, mlp], dim)?;
        Ok(Self { norm, qkv, proj_mlp, proj_out, ids: start..layers.next_id() })
    }

    fn last_product(&self, inside: &Inside, context: &Context) -> Result<Tensor> {
        self.proj_out.forward_parts(&[&(&inside.attention.attended.out).into(), &inside.hidden], context.paths)
    }
}

impl Block for SingleBlock {
    /// Text, then picture: [B, text + picture, C]
    type State = Tensor;
    type Inside = Inside;

    fn ids(&self) -> &Range<LinearId> {
        &self.ids
    }

    fn norms(&self) -> Vec<&Linear> {
        vec![&self.norm]
    }

    fn inside(&self, entering: &Entering<Tensor>, context: &Context, attended: Option<Attended>) -> Result<Inside> {
        let [modulation] = Modulation::split(&entering.modulations[0])?;
        let paths = context.paths;
        let x = modulation.norm(&entering.state, self.qkv.project.reads(paths) | self.proj_mlp.reads(paths))?;
        let qkv = self.qkv.project.forward(&x, paths)?;
        let attention = Attention::new(&self.qkv, &self.qkv, context).forward(qkv, attended)?;
        let (before_gelu, hidden) = self.proj_mlp.forward_gelu(&x, self.proj_out.reads(paths), paths, context.keeps)?;
        Ok(Inside { x, attention, before_gelu, hidden })
    }

    fn leave(&self, entering: &Entering<Tensor>, inside: &Inside, context: &Context) -> Result<Tensor> {
        let [modulation] = Modulation::split(&entering.modulations[0])?;
        modulation.add_gated(&entering.state, &self.last_product(inside, context)?)
    }

    fn attended(inside: &Inside) -> &Attended {
        &inside.attention.attended
    }

    fn backward(&self, entering: &Entering<Tensor>, inside: &Inside, g: Tensor, pass: &Pass) -> Result<Flowed<Tensor>> {
        let (Pass { context, gradients, .. }, paths) = (pass, pass.context.paths);
        let [modulation] = Modulation::split(&entering.modulations[0])?;
        let attended = Activation::from(&inside.attention.attended.out);
        let [dattended, dhidden] =
            self.proj_out.backward_parts([&attended, &inside.hidden], &modulation.gate_backward(&g)?, paths, gradients)?;
        let dmlp = ops::gelu_gradient(inside.before_gelu.as_ref().expect("kept for a backward pass"), &dhidden)?;
        let dqkv = Attention::new(&self.qkv, &self.qkv, context).backward(&inside.attention, &dattended)?;
        let dx = self.qkv.project.backward(&inside.x, &dqkv, None, paths, gradients)?;
        let dx = self.proj_mlp.backward(&inside.x, &dmlp, Some(dx), paths, gradients)?;

        let modulations = match pass.wants_modulations {
            true => vec![Modulation::gradient((&entering.state, &dx), (&self.last_product(inside, context)?, &g))?],
            false => Vec::new(),
        };
        let state = pass.wants_state.then(|| modulation.norm_backward(&entering.state, &dx, &g)).transpose()?;
        Ok(Flowed { state, modulations })
    }
}
