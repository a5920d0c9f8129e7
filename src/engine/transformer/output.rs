//! What leaves the blocks: the picture's tokens, normalised (`AdaLayerNormContinuous`) and projected to the velocity.

use super::{Config, Gradients, Layers};
use crate::{Result, adapter::SidePaths, checkpoint::Keys, linear::Linear, ops};
use candle_core::Tensor;

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
    x: Tensor,
}

impl Output {
    pub fn load(keys: &Keys, config: &Config, layers: &mut Layers) -> Result<Self> {
        let dim = config.inner_dim();
        let norm_out = layers.linear(&keys.at("norm_out.linear"), dim, 2 * dim)?;
        let proj_out = layers.linear(&keys.at("proj_out"), dim, config.in_channels)?;
        Ok(Self { norm_out, proj_out })
    }

    /// joint: [B, text + picture, C]; modulation: [B, 2·C]
    pub fn inside(&self, joint: &Tensor, text_tokens: usize, modulation: &Tensor) -> Result<Inside> {
        let picture = joint.narrow(1, text_tokens, joint.dim(1)? - text_tokens)?;
        // Unlike the blocks' modulations, scale comes before shift here.
        let chunks = modulation.chunk(2, 1)?;
        let (scale, shift) = (chunks[0].clone(), &chunks[1]);
        let x = ops::layer_norm_modulate(&picture, shift, &scale)?;
        Ok(Inside { picture, scale, x })
    }

    /// [B, picture, 64]
    pub fn leave(&self, inside: &Inside, paths: &SidePaths) -> Result<Tensor> {
        self.proj_out.forward(&inside.x, paths)
    }

    /// The gradients of the joint states and of the modulation. g: [B, picture, 64]
    pub fn backward(
        &self,
        inside: &Inside,
        text_tokens: usize,
        g: &Tensor,
        paths: &SidePaths,
        gradients: &Gradients,
    ) -> Result<(Tensor, Tensor)> {
        let Inside { picture, scale, x } = inside;
        let dx = self.proj_out.backward(x, g, None, paths, gradients)?;
        let (dshift, dscale) = ops::modulation_gradients(picture, &dx)?;
        let dpicture = ops::layer_norm_modulate_gradient(picture, scale, &dx, None)?;
        let (b, _, c) = dpicture.dims3()?;
        let dtext = Tensor::zeros((b, text_tokens, c), dpicture.dtype(), dpicture.device())?;
        Ok((Tensor::cat(&[dtext, dpicture], 1)?, Tensor::cat(&[dscale, dshift], 1)?))
    }
}
