//! How many floating-point operations a forward pass and a training micro-step take, counted from the configuration.

use crate::transformer::{Checkpointing, Config};

/// Operations of one row of a batch: a multiplication and its addition are two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flops {
    /// Products with weights.
    pub linear: f64,
    /// Scores, and the mean that they weigh.
    pub attention: f64,
}

impl Flops {
    /// One forward pass over `picture` and `text` tokens. What acts on one vector (modulation, time, guidance) is left out: 0.01 %.
    pub fn forward(model: &Config, picture: usize, text: usize) -> Self {
        let (width, tokens) = (model.inner_dim() as f64, (picture + text) as f64);
        let blocks = (model.num_layers + model.num_single_layers) as f64;
        let embedders = picture as f64 * (2 * model.in_channels) as f64 + (text * model.joint_attention_dim) as f64;
        Self {
            // q, k, v, out and an MLP four wide: each token passes 12·width² weights in either kind of block.
            linear: 2.0 * (blocks * 12.0 * width * width * tokens + embedders * width),
            attention: blocks * 4.0 * tokens * tokens * width,
        }
    }

    /// Forward and backward with frozen weights: the input's gradient is one more product for each weight, attention's is two and a half
    /// of its forward pass, and what was not kept is computed again.
    pub fn micro_step(self, model: &Config, checkpointing: Checkpointing) -> Self {
        let (linear_again, attention_again) = match checkpointing {
            Checkpointing::None => (0.0, 0.0),
            Checkpointing::Smart => (before_the_last_product(model), 0.0),
            Checkpointing::Full => (1.0, 1.0),
        };
        Self { linear: self.linear * (2.0 + linear_again), attention: self.attention * (3.5 + attention_again) }
    }

    pub fn total(self) -> f64 {
        self.linear + self.attention
    }
}

/// The last product of a block feeds only a gate whose gradient nobody wants, so a block that is run again stops before it. A token
/// is spared 4 of its 12 parts in a double block, 5 in a single one.
fn before_the_last_product(model: &Config) -> f64 {
    let (double, single) = (model.num_layers as f64, model.num_single_layers as f64);
    (8.0 * double + 7.0 * single) / (12.0 * (double + single))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::Synthetic;

    /// 12.910 GFLOP a token in the blocks, 14.872 TFLOP of attention at 1024×1024 with 512 tokens of text.
    #[test]
    fn flux_dev_takes_what_was_counted_by_hand() {
        let model: Config = Synthetic::FluxDev.config("transformer");
        let near = |ours: f64, tera: f64| assert!((ours / (tera * 1e12) - 1.0).abs() < 1e-3, "{ours:e} is not {tera} TFLOP");
        let large = Flops::forward(&model, 4096, 512);
        near(large.linear, 59.490 + 0.016);
        near(large.attention, 14.872);
        let portrait = Flops::forward(&model, 1536, 512);
        near(portrait.total(), 29.398);
        near(portrait.micro_step(&model, Checkpointing::Full).total(), 92.6);
        near(portrait.micro_step(&model, Checkpointing::None).total(), 63.2);
    }

    /// 79.4 TFLOP: attention is kept.
    #[test]
    fn smart_checkpointing_lies_between() {
        let model: Config = Synthetic::FluxDev.config("transformer");
        assert!((before_the_last_product(&model) - 0.6111).abs() < 1e-4);
        let forward = Flops::forward(&model, 1536, 512);
        let of = |checkpointing| forward.micro_step(&model, checkpointing).total();
        assert!((of(Checkpointing::Smart) / 79.4e12 - 1.0).abs() < 2e-3);
        assert!(of(Checkpointing::None) < of(Checkpointing::Smart) && of(Checkpointing::Smart) < of(Checkpointing::Full));
    }
}
