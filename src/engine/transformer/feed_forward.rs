//! The second half of a double block's stream: norm, two layers with a GELU between, gate and residual.

use super::{
    Config, Layers,
    block::{Context, Pass},
    modulation::Modulation,
};
use crate::{
    Result,
    checkpoint::Keys,
    linear::Linear,
    ops::{self, Activation},
};
use candle_core::Tensor;

pub struct FeedForward {
    widen: Linear,
    narrow: Linear,
}

pub struct Inside {
    /// Normalised states, [B, S, C].
    x: Activation,
    /// [B, S, 4·C], if a backward pass will come.
    before_gelu: Option<Tensor>,
    hidden: Activation,
}

impl FeedForward {
    pub fn load(keys: &Keys, config: &Config, layers: &mut Layers) -> Result<Self> {
        let (dim, mlp) = (config.inner_dim(), config.mlp_dim());
        Ok(Self { widen: layers.linear(&keys.at("0.proj"), dim, mlp)?, narrow: layers.linear(&keys.at("2"), mlp, dim)? })
    }

    /// state: [B, S, C]
    pub fn inside(&self, state: &Tensor, modulation: &Modulation, context: &Context) -> Result<Inside> {
        let paths = context.paths;
        let x = modulation.norm(state, self.widen.reads(paths))?;
        let (before_gelu, hidden) = self.widen.forward_gelu(&x, self.narrow.reads(paths), paths, context.keeps)?;
        Ok(Inside { x, before_gelu, hidden })
    }

    pub fn leave(&self, state: &Tensor, inside: &Inside, modulation: &Modulation, context: &Context) -> Result<Tensor> {
        modulation.add_gated(state, &self.narrow.forward(&inside.hidden, context.paths)?)
    }

    /// The gradients of the state and, if wanted, of the modulation. g: of what left
    pub fn backward(
        &self,
        state: &Tensor,
        inside: &Inside,
        modulation: &Modulation,
        g: &Tensor,
        pass: &Pass,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (paths, gradients) = (pass.context.paths, pass.gradients);
        let dhidden = self.narrow.backward(&inside.hidden, &modulation.gate_backward(g)?, None, paths, gradients)?;
        let dwide = ops::gelu_gradient(inside.before_gelu.as_ref().expect("kept for a backward pass"), &dhidden)?;
        let dx = self.widen.backward(&inside.x, &dwide, None, paths, gradients)?;
        let dmodulation = || Modulation::gradient((state, &dx), (&self.narrow.forward(&inside.hidden, paths)?, g));
        let dmodulation = pass.wants_modulations.then(dmodulation).transpose()?;
        Ok((modulation.norm_backward(state, &dx, g)?, dmodulation))
    }
}
