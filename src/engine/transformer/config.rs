//! transformer/config.json, and which of its values this engine can follow.

use crate::latents::PACKED_CHANNELS;

#[derive(Clone, Debug, serde::Deserialize)]
pub struct Config {
    pub in_channels: usize,
    pub num_layers: usize,
    pub num_single_layers: usize,
    pub attention_head_dim: usize,
    pub num_attention_heads: usize,
    pub joint_attention_dim: usize,
    pub pooled_projection_dim: usize,
    pub guidance_embeds: bool,
    #[serde(default = "default_axes")]
    pub axes_dims_rope: Vec<usize>,
}

/// What FLUX.1-dev uses; its config.json does not say so.
fn default_axes() -> Vec<usize> {
    vec![16, 56, 56]
}

impl Config {
    /// Width of the token states.
    pub fn inner_dim(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Width between the two layers of a feed-forward.
    pub fn mlp_dim(&self) -> usize {
        4 * self.inner_dim()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.in_channels != PACKED_CHANNELS {
            return Err(format!("in_channels {}: only FLUX.1 text to image ({PACKED_CHANNELS}) is supported", self.in_channels));
        }
        if self.inner_dim() == 0 {
            return Err("num_attention_heads and attention_head_dim must be greater than 0".into());
        }
        let axes = &self.axes_dims_rope;
        if axes.len() != 3 || axes.iter().any(|width| width % 2 != 0) || axes.iter().sum::<usize>() != self.attention_head_dim {
            return Err(format!(
                "axes_dims_rope {axes:?} must be three even numbers that add up to attention_head_dim {}",
                self.attention_head_dim
            ));
        }
        Ok(())
    }
}
