//! vae/config.json, and which of its values this engine can follow.

use crate::latents::CHANNELS;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    pub block_out_channels: Vec<usize>,
    pub layers_per_block: usize,
    pub latent_channels: usize,
    pub norm_num_groups: usize,
    pub scaling_factor: f64,
    pub shift_factor: f64,
    #[serde(default = "yes")]
    pub mid_block_add_attention: bool,
    #[serde(default = "yes")]
    pub use_quant_conv: bool,
    #[serde(default = "yes")]
    pub use_post_quant_conv: bool,
    #[serde(default)]
    act_fn: Option<String>,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
}

/// diffusers' default where the file says nothing.
fn yes() -> bool {
    true
}

impl Config {
    /// Channels at the coarsest level.
    pub fn deepest(&self) -> usize {
        self.block_out_channels[self.block_out_channels.len() - 1]
    }

    /// Weights of the convolutions and of the attention in the middle of either half.
    pub fn parameters(&self) -> usize {
        let (channels, latent) = (&self.block_out_channels, self.latent_channels);
        let conv = |inputs: usize, outputs: usize| 9 * inputs * outputs;
        let resnets = |inputs: usize, outputs: usize, count: usize| {
            let shortcut = if inputs == outputs { 0 } else { inputs * outputs };
            conv(inputs, outputs) + shortcut + (2 * count - 1) * conv(outputs, outputs)
        };
        let half = |levels: &[usize], count: usize| -> usize {
            let from = |i: usize| levels[i.saturating_sub(1)];
            let level = |i: usize| resnets(from(i), levels[i], count) + if i + 1 < levels.len() { conv(levels[i], levels[i]) } else { 0 };
            (0..levels.len()).map(level).sum()
        };
        let deepest = self.deepest();
        let middle = resnets(deepest, deepest, 2) + 4 * deepest * deepest;
        let reversed: Vec<usize> = channels.iter().rev().copied().collect();
        let ends = conv(3, channels[0]) + conv(deepest, 2 * latent) + conv(latent, deepest) + conv(channels[0], 3);
        half(channels, self.layers_per_block) + half(&reversed, self.layers_per_block + 1) + 2 * middle + ends
    }

    pub fn check(&self) -> Result<(), String> {
        // FLUX.1's latents are 1/8 of the picture: three halvings between four levels.
        if self.block_out_channels.len() != 4 || self.latent_channels != CHANNELS {
            return Err(format!("FLUX.1's VAE has 4 block_out_channels and {CHANNELS} latent_channels"));
        }
        if self.norm_num_groups == 0 || self.block_out_channels.iter().any(|c| *c == 0 || c % self.norm_num_groups != 0) {
            return Err("block_out_channels must be multiples of norm_num_groups".into());
        }
        if !(self.scaling_factor.is_finite() && self.scaling_factor != 0.0 && self.shift_factor.is_finite()) {
            return Err("scaling_factor and shift_factor must be finite numbers, the first not 0".into());
        }
        if self.act_fn.as_deref().is_some_and(|name| name != "silu") {
            return Err("act_fn must be silu".into());
        }
        let plain = |types: &[String], kind: &str| types.iter().all(|t| t == kind);
        if !plain(&self.down_block_types, "DownEncoderBlock2D") || !plain(&self.up_block_types, "UpDecoderBlock2D") {
            return Err("only DownEncoderBlock2D and UpDecoderBlock2D blocks are supported".into());
        }
        Ok(())
    }
}
