//! Bytes of weights and of what is alive beside them, from the configuration.

use super::{Peak, Placement, Sizes, Training, Workload};
use crate::{
    Precision,
    text_encoder::T5Config,
    transformer::{Checkpointing, Config},
    vae,
};

const BF16: u64 = 2;
const F32: u64 = 4;
/// cuBLASLt's.
const WORKSPACE: u64 = 32 << 20;
/// cuDNN's in a convolution, at most.
const CONV_WORKSPACE: u64 = 16 << 20;

/// Tokens' states alive at once in a forward pass, in rows of [tokens, width] bf16. The most are alive in a single block before its last
/// product: residual and norm (2), q, k, v (3), attention (1), the MLP's hidden states (4), and what the product writes (1).
const FORWARD_ROWS: f64 = 11.0;
/// The same while one block runs backwards: all that a block can keep, and its gradients.
const BACKWARD_ROWS: f64 = 20.0 + 13.0;

/// Rows that the blocks keep for backward, all together. What enters a block is one of them.
fn kept_rows(model: &Config, checkpointing: Checkpointing) -> f64 {
    let (double, single) = match checkpointing {
        // Norms, q, k, v before and after rotation, attention, the MLP's states before and after GELU.
        Checkpointing::None => (20, 17),
        // And attention's output.
        Checkpointing::Smart => (2, 2),
        Checkpointing::Full => (1, 1),
    };
    (double * model.num_layers + single * model.num_single_layers) as f64
}

pub fn on_gpu(sizes: &Sizes, placement: Placement, workload: &Workload) -> Peak {
    let (model, trains) = (&sizes.transformer, workload.training());
    let element = placement.precision.dtype().size_in_bytes() as u64;
    let tokens = (workload.size.tokens() + workload.text_tokens) as u64;
    let row = workload.batch as u64 * tokens * model.inner_dim() as u64 * element;
    let alive = match trains {
        None => FORWARD_ROWS,
        Some(training) => kept_rows(model, training.checkpointing) + BACKWARD_ROWS,
    };
    let ahead = if trains.is_some() { TRAINING_AHEAD.max(workload.batch as u64) } else { STEPS_AHEAD * workload.batch as u64 };
    let states = (alive * row as f64) as u64 + ahead * modulation_row(model);
    // Beside NF4, modulation's weights stay with the host.
    let modulation = if placement.precision == Precision::Nf4 { 0 } else { modulation_parameters(model) };
    let (h, w) = (workload.size.height() / 8, workload.size.width() / 8);
    Peak {
        transformer: placement.precision.bytes_of(block_parameters(model)) + (other_parameters(model) + modulation) * element,
        text_encoder: t5_bytes(&sizes.t5, placement.text) + sizes.clip.parameters() as u64 * BF16,
        vae: sizes.vae.parameters() as u64 * BF16,
        encoding: encoding(&sizes.t5, workload.text_tokens) + scratch(placement.text, largest_of_t5(&sizes.t5)) + WORKSPACE,
        step: states
            + trains.map_or(0, adapter)
            + scratch(placement.precision, plain_of_block(model, placement.precision, trains))
            + WORKSPACE,
        picture: if trains.is_some() { encoding_pictures(&sizes.vae, h, w) } else { decoding(&sizes.vae, h, w) },
        tile: if trains.is_some() { encoding_pictures(&sizes.vae, h, w) } else { decoding(&sizes.vae, TILE, TILE) },
    }
}

/// Modulations made ahead, in rows: of a usual sampling for each picture, and of some micro-steps.
const STEPS_AHEAD: u64 = 28;
const TRAINING_AHEAD: u64 = 16;

/// Shifts, scales and gates of all blocks for one picture at one step: 4.2 MB for FLUX.1.
fn modulation_row(model: &Config) -> u64 {
    let vectors = 12 * model.num_layers + 3 * model.num_single_layers + 2;
    (vectors * model.inner_dim()) as u64 * F32
}

/// Latents along a side of the VAE's default tile.
const TILE: usize = 64;

/// Adapter weights as the optimiser sees them, a bf16 copy for products, gradients, moments.
fn adapter(training: &Training) -> u64 {
    training.parameters as u64 * (2 * F32 + BF16 + F32 + training.moment_bytes as u64)
}

/// Attention and MLPs: 12·width² a stream of a double block, and a single block.
pub fn block_parameters(model: &Config) -> u64 {
    let width = model.inner_dim() as u64;
    12 * width * width * (2 * model.num_layers + model.num_single_layers) as u64
}

/// 6·width² a stream of a double block, 3 a single block, 2 at the end.
pub fn modulation_parameters(model: &Config) -> u64 {
    let width = model.inner_dim() as u64;
    width * width * (12 * model.num_layers + 3 * model.num_single_layers + 2) as u64
}

/// Embedders and the last layer.
pub fn other_parameters(model: &Config) -> u64 {
    let embedders = super::layers(model).into_iter().filter(|layer| !layer.path.contains("transformer_blocks"));
    embedders.filter(|layer| !super::is_modulation(&layer.path)).map(|layer| (layer.in_features * layer.out_features) as u64).sum()
}

fn t5_bytes(t5: &T5Config, precision: Precision) -> u64 {
    precision.bytes_of(t5.linear_parameters() as u64) + t5.embedding_parameters() as u64 * BF16
}

/// Where quantised weights become such that can be multiplied.
fn scratch(precision: Precision, largest: u64) -> u64 {
    match precision {
        Precision::Nf4 | Precision::Fp8 => largest * BF16,
        Precision::F32 | Precision::Bf16 => 0,
    }
}

/// Parameters that are plain at once: a feed-forward's, 4·width². Where a block in NF4 runs again for its backward pass, those that both
/// multiply with are too: 8·width² of each stream.
fn plain_of_block(model: &Config, precision: Precision, trains: Option<&Training>) -> u64 {
    let again = trains.is_some_and(|training| training.checkpointing != Checkpointing::None);
    let squares = if again && precision == Precision::Nf4 { 4 + 2 * 8 } else { 4 };
    squares * (model.inner_dim() as u64).pow(2)
}

fn largest_of_t5(t5: &T5Config) -> u64 {
    (t5.d_model * t5.d_ff.max(t5.num_heads * t5.d_kv)) as u64
}

/// Scores in f32 (themselves, with bias, after softmax), the gated MLP, and the states.
fn encoding(t5: &T5Config, tokens: usize) -> u64 {
    let (tokens, heads) = (tokens as u64, t5.num_heads as u64);
    let scores = 4 * heads * tokens * tokens * F32;
    scores + tokens * (3 * t5.d_ff + 8 * t5.d_model) as u64 * BF16
}

/// Feature maps of one picture of h × w latents in bf16, and what a convolution takes beside them.
pub fn decoding(vae: &vae::Config, h: usize, w: usize) -> u64 {
    decoder_channels(vae) * pixels(h, w) * BF16 + CONV_WORKSPACE
}

/// Channels alive at the finest level. The most are so in its first residual block, where maps of the level before arrive (`from`): they,
/// their norm, and what the first convolution writes; at the end they, the second norm, the shortcut and the sum.
fn decoder_channels(vae: &vae::Config) -> u64 {
    let [to, from] = [0, 1].map(|level| vae.block_out_channels[level] as u64);
    (2 * from + to).max(from + 3 * to)
}

/// The same of the encoder, which leaves the finest level with as many maps as it has there: x, a norm, and what a convolution writes.
pub fn encoding_pictures(vae: &vae::Config, h: usize, w: usize) -> u64 {
    3 * vae.block_out_channels[0] as u64 * pixels(h, w) * BF16 + CONV_WORKSPACE
}

fn pixels(h: usize, w: usize) -> u64 {
    64 * (h * w) as u64
}

/// Floats kept for backward by a block, per token and unit of width: flux-mini at 256x256 peaks at 241, 362 and 603 MiB with batches of
/// 1, 2 and 4.
const CPU_KEPT: f64 = 36.0;
/// Blocks' worth of that alive at once when each block is run again: 158 MiB with a batch of 1.
const CPU_ALIVE: f64 = 2.5;
/// What the process holds beside the model: allocator, runtime, page cache of its own.
const CPU_BASE: u64 = 45 << 20;

/// Everything in f32 and resident throughout.
pub fn on_cpu(sizes: &Sizes, workload: &Workload) -> Peak {
    let model = &sizes.transformer;
    let blocks = (model.num_layers + model.num_single_layers) as f64;
    let kept = match workload.training().map(|training| training.checkpointing) {
        None => FORWARD_ROWS,
        Some(Checkpointing::None) => blocks * CPU_KEPT,
        Some(Checkpointing::Smart) => blocks * 2.0 + CPU_ALIVE * CPU_KEPT,
        Some(Checkpointing::Full) => blocks + CPU_ALIVE * CPU_KEPT,
    };
    let tokens = (workload.batch * (workload.size.tokens() + workload.text_tokens)) as f64;
    let transformer = (block_parameters(model) + modulation_parameters(model)) * F32;
    // A convolution and its sum with the residual are two maps there.
    let channels = decoder_channels(&sizes.vae) + sizes.vae.block_out_channels[0] as u64;
    let picture = channels * pixels(workload.size.height() / 8, workload.size.width() / 8) * F32;
    Peak {
        transformer,
        // Encoders and VAE hold half as much again as the transformer, in flux-mini as in FLUX.1.
        text_encoder: transformer / 2,
        vae: 0,
        encoding: 0,
        step: (kept * tokens * model.inner_dim() as f64) as u64 * F32 + CPU_BASE,
        picture,
        tile: picture,
    }
}
