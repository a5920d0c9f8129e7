//! What leaves the blocks: the picture's tokens, normalised (`AdaLayerNormContinuous`) and projected to the velocity.

use super::{Config, Gradients, Layers, block::Context};
use crate::{
    Result,
    adapter::SidePaths,
    checkpoint::Keys,
    linear::Linear,
    ops::{self, Activation, Reads},
};
use candle_core::{DType, Tensor};

pub struct Output {
    pub norm_out: Linear,
    proj_out: Linear,
}

/// What the projection reads, and what that was made of.
pub struct Inside {
    /// The picture's tokens, [B, picture, C].
    picture: Tensor,
    /// [B, C]
    scale: Tensor,
    x: Activation,
}

impl Output {
    pub fn load(keys: &Keys, config: &Config, layers: &mut Layers) -> Result<Self> {
        let dim = config.inner_dim();
        let norm_out = layers.modulation(&keys.at("norm_out.linear"), dim, 2 * dim)?;
        let proj_out = layers.unquantised(&keys.at("proj_out"), dim, config.in_channels)?;
        Ok(Self { norm_out, proj_out })
    }

    /// joint: [B, text + picture, C]
    pub fn inside(&self, joint: &Tensor, context: &Context) -> Result<Inside> {
        let text_tokens = context.positions.text_tokens;
        let picture = joint.narrow(1, text_tokens, joint.dim(1)? - text_tokens)?;
        // Unlike the blocks' modulations, scale comes before shift here.
        let chunks = context.modulations.of(&self.norm_out).chunk(2, 1)?;
        let (scale, shift) = (chunks[0].clone(), &chunks[1]);
        let x = ops::layer_norm_modulate(&picture, shift, &scale, Reads::VALUES)?;
        Ok(Inside { picture, scale, x })
    }

    /// [B, picture, 64] f32
    pub fn leave(&self, inside: &Inside, paths: &SidePaths) -> Result<Tensor> {
        Ok(self.proj_out.forward(&inside.x, paths)?.to_dtype(DType::F32)?)
    }

    /// The gradients of the joint states and of the modulation. g: [B, picture, 64] f32
    pub fn backward(&self, inside: &Inside, g: &Tensor, context: &Context, gradients: &Gradients) -> Result<(Tensor, Tensor)> {
        let Inside { picture, scale, x } = inside;
        let dx = self.proj_out.backward(x, &g.to_dtype(picture.dtype())?, None, context.paths, gradients)?;
        let (dshift, dscale) = ops::modulation_gradients(picture, &dx)?;
        let dpicture = ops::layer_norm_modulate_gradient(picture, scale, &dx, None)?;
        let (b, _, c) = dpicture.dims3()?;
        let dtext = Tensor::zeros((b, context.positions.text_tokens, c), dpicture.dtype(), dpicture.device())?;
        Ok((Tensor::cat(&[dtext, dpicture], 1)?, Tensor::cat(&[dscale, dshift], 1)?))
    }
}
