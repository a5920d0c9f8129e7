//! How much memory a picture or a training step takes at its peak, counted before it begins, and what follows from it: how a model is
//! held, what is kept for backward, what is refused.
//!
//! On a GPU everything is counted from the configuration. On the CPU, where it matters less, it is what was measured with flux-mini, scaled.

mod activations;
mod layers;
mod refusal;

pub use activations::decoding;
pub use layers::layers;
pub use refusal::{CARDS, check};

use crate::{
    Model, Precision, Result, Size,
    text_encoder::{ClipConfig, T5Config},
    transformer::{Checkpointing, Config, LinearInfo},
    vae,
};
use std::fmt;

/// What of a model decides its memory.
#[derive(Clone, Debug)]
pub struct Sizes {
    pub transformer: Config,
    pub t5: T5Config,
    pub clip: ClipConfig,
    pub vae: vae::Config,
}

impl Sizes {
    /// Read from the configurations; no weights are touched.
    pub fn of(model: &Model) -> Result<Self> {
        Ok(Self {
            transformer: model.config("transformer")?,
            t5: model.config("text_encoder_2")?,
            clip: model.config("text_encoder")?,
            vae: model.config("vae")?,
        })
    }

    /// FLUX.1 is 3072 wide and draws at 1024 pixels; models that train on a laptop are a tenth of that and draw at 256.
    pub fn is_small(&self) -> bool {
        self.transformer.inner_dim() < 1024
    }

    /// The square that the model was made for.
    pub fn usual_size(&self) -> Size {
        let side = if self.is_small() { 256 } else { 1024 };
        Size::new(side, side).expect("both are multiples of 16")
    }
}

/// Where and in which form a model is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    pub on: Processor,
    /// Of the transformer's blocks.
    pub precision: Precision,
    /// Of T5's layers.
    pub text: Precision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processor {
    Cpu,
    Gpu,
}

impl Placement {
    /// As the CPU computes.
    pub const CPU: Self = Self { on: Processor::Cpu, precision: Precision::F32, text: Precision::F32 };

    pub fn on_gpu(precision: Precision) -> Self {
        Self { on: Processor::Gpu, precision, text: precision }
    }
}

/// A piece of work, as far as memory goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Workload {
    pub size: Size,
    /// T5's.
    pub text_tokens: usize,
    /// Pictures at once.
    pub batch: usize,
    pub task: Task,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Task {
    Generate,
    Train(Training),
}

/// What of a training decides its memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Training {
    /// Weights of the adapter.
    pub parameters: usize,
    /// Whether an adapter sits on modulation, whose frozen weights then cannot stay off the GPU.
    pub modulation: bool,
    pub checkpointing: Checkpointing,
    /// Of both moments of the optimiser, for a weight.
    pub moment_bytes: usize,
}

impl Training {
    /// Pairs of `rank` on the chosen layers.
    pub fn new(chosen: &[&LinearInfo], rank: usize, checkpointing: Checkpointing, moment_bytes: usize) -> Self {
        let parameters = chosen.iter().map(|layer| rank * (layer.in_features + layer.out_features)).sum();
        Self { parameters, modulation: chosen.iter().any(|layer| is_modulation(&layer.path)), checkpointing, moment_bytes }
    }
}

/// `norm1.linear`, `norm1_context.linear`, `norm.linear`, `norm_out.linear`.
fn is_modulation(path: &str) -> bool {
    path.strip_suffix(".linear").and_then(|path| path.rsplit('.').next()).is_some_and(|name| name.starts_with("norm"))
}

impl Workload {
    pub fn generate(size: Size, text_tokens: usize, batch: usize) -> Self {
        Self { size, text_tokens, batch, task: Task::Generate }
    }

    /// The same training with another policy.
    pub fn with(self, checkpointing: Checkpointing) -> Self {
        match self.task {
            Task::Generate => self,
            Task::Train(training) => Self { task: Task::Train(Training { checkpointing, ..training }), ..self },
        }
    }

    fn training(&self) -> Option<&Training> {
        match &self.task {
            Task::Generate => None,
            Task::Train(training) => Some(training),
        }
    }
}

/// Bytes, part by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peak {
    /// Weights.
    pub transformer: u64,
    pub text_encoder: u64,
    pub vae: u64,
    /// What the text encoders, the transformer and the VAE need beside weights while they work. One works at a time.
    pub encoding: u64,
    pub step: u64,
    pub picture: u64,
    /// The VAE's at the least, in tiles.
    pub tile: u64,
}

impl Peak {
    pub fn of(sizes: &Sizes, placement: Placement, workload: &Workload) -> Self {
        match placement.on {
            Processor::Gpu => activations::on_gpu(sizes, placement, workload),
            Processor::Cpu => activations::on_cpu(sizes, workload),
        }
    }

    /// With every part resident throughout.
    pub fn whole(&self) -> u64 {
        self.transformer + self.text_encoder + self.vae + self.encoding.max(self.step).max(self.picture)
    }

    /// With encoders and VAE resident while they work only, and pictures decoded in tiles.
    pub fn least(&self) -> u64 {
        let working = (self.text_encoder + self.encoding).max(self.step).max(self.vae + self.picture.min(self.tile));
        self.transformer + working
    }
}

/// How a model is best held on a GPU with `free` bytes: in bf16 if a picture of the usual size can be drawn so, else in fp8 where the GPU
/// multiplies it, else in NF4. T5 may be held in less than the transformer. `wanted` fixes the transformer's precision.
pub fn place(sizes: &Sizes, wanted: Option<Precision>, has_fp8: bool, free: u64) -> Placement {
    let workload = Workload::generate(sizes.usual_size(), 512, 1);
    let mut candidates = placements(wanted, has_fp8).peekable();
    let first = candidates.peek().copied();
    let fitting = candidates.find(|placement| Peak::of(sizes, *placement, &workload).least() <= free);
    // Nothing fits: what is asked for, or the smallest; whoever asks for a picture is told.
    let smallest = Placement::on_gpu(Precision::Nf4);
    fitting.unwrap_or_else(|| wanted.and(first).map_or(smallest, |first| Placement { text: Precision::Nf4, ..first }))
}

/// From the most exact to the smallest.
pub(crate) fn placements(wanted: Option<Precision>, has_fp8: bool) -> impl Iterator<Item = Placement> {
    const BEST_FIRST: [Precision; 3] = [Precision::Bf16, Precision::Fp8, Precision::Nf4];
    let usable = move |precision: &Precision| has_fp8 || *precision != Precision::Fp8;
    let transformers = wanted.map_or(BEST_FIRST.to_vec(), |wanted| vec![wanted]);
    let texts = move |precision: Precision| {
        let smaller = BEST_FIRST.into_iter().filter(move |text| *text > precision);
        std::iter::once(precision).chain(smaller.filter(usable)).map(move |text| Placement { text, ..Placement::on_gpu(precision) })
    };
    transformers.into_iter().filter(move |precision| wanted.is_some() || usable(precision)).flat_map(texts)
}

/// The policy that recomputes least within `free` bytes, weights included; `None` where even recomputing everything does not fit.
pub fn choose_checkpointing(sizes: &Sizes, placement: Placement, workload: &Workload, free: u64) -> Option<Checkpointing> {
    let fits = |policy: &Checkpointing| Peak::of(sizes, placement, &workload.with(*policy)).least() <= free;
    [Checkpointing::None, Checkpointing::Smart, Checkpointing::Full].into_iter().find(fits)
}

/// `9.4 GiB`, `310 MiB`.
#[derive(Clone, Copy)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..0x4000_0000 => write!(f, "{:.0} MiB", self.0 as f64 / f64::from(1 << 20)),
            _ => write!(f, "{:.1} GiB", self.0 as f64 / f64::from(1 << 30)),
        }
    }
}
