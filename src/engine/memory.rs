//! How much memory a picture or a training step takes at its peak, counted before it begins, and what follows from it: how a model is
//! held, what is kept for backward, what is refused.
//!
//! On a GPU everything is counted from the configuration. On the CPU, where it matters less, it is what was measured with flux-mini, scaled.

mod activations;
mod layers;
mod refusal;

pub use activations::{decoding, encoding_pictures};
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
    pub checkpointing: Checkpointing,
    /// Of both moments of the optimiser, for a weight.
    pub moment_bytes: usize,
}

impl Training {
    /// Pairs of `rank` on the chosen layers.
    pub fn new(chosen: &[&LinearInfo], rank: usize, checkpointing: Checkpointing, moment_bytes: usize) -> Self {
        let parameters = chosen.iter().map(|layer| rank * (layer.in_features + layer.out_features)).sum();
        Self { parameters, checkpointing, moment_bytes }
    }
}

/// Whether a layer is one of modulation: `norm1.linear`, `norm1_context.linear`, `norm.linear`, `norm_out.linear`.
pub fn is_modulation(path: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::Synthetic;
    use activations::{block_parameters, modulation_parameters, other_parameters};
    use candle_core::Device;

    const GIB: u64 = 1 << 30;

    fn flux_dev() -> Sizes {
        Sizes::of(&Model::Synthetic(Synthetic::FluxDev)).unwrap()
    }

    fn size(width: usize, height: usize) -> Size {
        Size::new(width, height).unwrap()
    }

    /// Rank 4 on attention in portrait format, as the reference trains.
    fn training(checkpointing: Checkpointing) -> Workload {
        let layers = layers(&flux_dev().transformer);
        let attention: Vec<_> =
            layers.iter().filter(|layer| ["to_q", "to_k", "to_v", "to_out.0"].iter().any(|end| layer.path.ends_with(end))).collect();
        let task = Task::Train(Training::new(&attention, 4, checkpointing, 2));
        Workload { size: size(512, 768), text_tokens: 512, batch: 1, task }
    }

    fn gib(bytes: u64) -> f64 {
        bytes as f64 / GIB as f64
    }

    /// 11,901,408,320 with biases and norms, of which 3,065,920 and 19,456.
    #[test]
    fn flux_dev_has_its_parameters() {
        let sizes = flux_dev();
        let model = &sizes.transformer;
        assert_eq!(block_parameters(model) + modulation_parameters(model) + other_parameters(model), 11_898_322_944);
        assert_eq!(modulation_parameters(model), 3_246_391_296);
        let listed: usize = layers(model).iter().map(|layer| layer.in_features * layer.out_features).sum();
        assert_eq!(listed, 11_898_322_944);
        // T5-XXL's encoder has 4,762 million, CLIP-L 123, the VAE 84.
        let millions = |parameters: usize| (parameters as f64 / 1e6).round();
        assert_eq!(millions(sizes.t5.linear_parameters() + sizes.t5.embedding_parameters()), 4762.0);
        assert_eq!(millions(sizes.clip.parameters()), 123.0);
        assert_eq!(millions(sizes.vae.parameters()), 84.0);
        let Task::Train(reference) = training(Checkpointing::Full).task else { unreachable!() };
        assert_eq!(reference.parameters, 4_669_440);
    }

    #[test]
    fn the_layers_are_those_of_a_loaded_model() {
        let model = Model::Synthetic(Synthetic::FluxMini);
        let transformer =
            crate::transformer::Transformer::from_checkpoint(&model.part("transformer", &Device::Cpu).unwrap(), Precision::F32).unwrap();
        let described = |layers: &[LinearInfo]| {
            layers.iter().map(|layer| (layer.id, layer.path.clone(), layer.in_features, layer.out_features)).collect::<Vec<_>>()
        };
        assert_eq!(described(&layers(&transformer.config)), described(transformer.linears()));
    }

    /// Weights: 2 bytes, 1 byte and 0.5159 bytes of 8.607 billion; 2 of 45 million embedder weights and, but for NF4, of 3.246 billion of
    /// modulation.
    #[test]
    fn peaks_are_what_was_counted_by_hand() {
        let (sizes, picture) = (flux_dev(), Workload::generate(size(1024, 1024), 512, 1));
        let peak = |precision, workload: &Workload| Peak::of(&sizes, Placement::on_gpu(precision), workload);
        for (precision, expected) in [(Precision::Bf16, 22.17), (Precision::Fp8, 14.17), (Precision::Nf4, 4.22)] {
            let transformer = gib(peak(precision, &picture).transformer);
            assert!((transformer / expected - 1.0).abs() < 0.01, "{precision}: {transformer}");
        }
        // T5-XXL and CLIP in bf16.
        assert!((gib(peak(Precision::Bf16, &picture).text_encoder) / 9.10 - 1.0).abs() < 0.01);
        // Block inputs of 2048 tokens: 57 · 2048 · 3072 · 2 bytes.
        let [none, smart, full] = [Checkpointing::None, Checkpointing::Smart, Checkpointing::Full]
            .map(|checkpointing| peak(Precision::Nf4, &training(checkpointing)).step);
        assert_eq!(smart - full, 57 * 2048 * 3072 * 2);
        assert!(none > 5 * smart);
        // While it trains; diffusers with bitsandbytes takes 8.35 GiB for the same.
        let reference = peak(Precision::Nf4, &training(Checkpointing::Full));
        assert!((5.0..7.5).contains(&gib(reference.transformer + reference.step)), "{reference:?}");
    }

    /// One H100, random weights, 512 tokens of text, medians of 9: the transformer and its work.
    #[test]
    fn peaks_are_those_that_were_measured() {
        let (sizes, picture) = (flux_dev(), Workload::generate(size(1024, 1024), 512, 1));
        for (precision, workload, measured) in [
            (Precision::Bf16, picture, 22.58),
            (Precision::Fp8, picture, 14.54),
            (Precision::Nf4, picture, 4.69),
            (Precision::Nf4, training(Checkpointing::Full), 5.55),
            (Precision::Nf4, training(Checkpointing::Smart), 6.21),
            (Precision::Bf16, training(Checkpointing::None), 34.45),
        ] {
            let peak = Peak::of(&sizes, Placement::on_gpu(precision), &workload);
            let predicted = gib(peak.transformer + peak.step);
            assert!((predicted / measured - 1.0).abs() < 0.05, "{precision}: {predicted:.2} instead of {measured} GiB");
        }
    }

    /// The same of FLUX.1's VAE and one picture, in MiB beside the weights.
    #[test]
    fn peaks_of_the_vae_are_those_that_were_measured() {
        let vae = flux_dev().vae;
        for (predicted, measured) in
            [(decoding(&vae, 64, 64), 320), (encoding_pictures(&vae, 64, 64), 194), (encoding_pictures(&vae, 128, 128), 775)]
        {
            let predicted = (predicted >> 20) as f64;
            assert!((predicted / f64::from(measured) - 1.0).abs() < 0.1, "{predicted} instead of {measured} MiB");
        }
    }

    #[test]
    fn more_work_needs_more() {
        let sizes = flux_dev();
        let step = |workload: &Workload| Peak::of(&sizes, Placement::on_gpu(Precision::Nf4), workload).step;
        let picture = Workload::generate(size(512, 512), 128, 1);
        assert!(step(&Workload { size: size(768, 512), ..picture }) > step(&picture));
        assert!(step(&Workload { text_tokens: 512, ..picture }) > step(&picture));
        assert!(step(&Workload { batch: 2, ..picture }) > step(&picture));
        let Task::Train(reference) = training(Checkpointing::Full).task else { unreachable!() };
        let with = |training| step(&Workload { task: Task::Train(training), ..picture });
        assert!(with(Training { parameters: 100_000_000, ..reference }) > with(reference));
        assert!(with(Training { moment_bytes: 8, ..reference }) > with(reference));
    }

    #[test]
    fn evicting_and_tiling_spare_memory() {
        let sizes = flux_dev();
        let peak = Peak::of(&sizes, Placement::on_gpu(Precision::Nf4), &Workload::generate(size(2048, 2048), 512, 1));
        assert!(peak.least() < peak.whole() && peak.tile < peak.picture);
        let small = Peak::of(&sizes, Placement::on_gpu(Precision::Nf4), &Workload::generate(size(64, 64), 512, 1));
        assert!(small.least() <= small.whole());
    }

    #[test]
    fn a_card_gets_the_most_exact_model_that_fits() {
        let sizes = flux_dev();
        let placed = |gib: u64, has_fp8| {
            let placement = place(&sizes, None, has_fp8, gib * GIB);
            (placement.precision, placement.text)
        };
        use Precision::*;
        assert_eq!(placed(79, true), (Bf16, Bf16));
        assert_eq!(placed(30, true), (Bf16, Fp8));
        assert_eq!(placed(22, true), (Fp8, Fp8));
        assert_eq!(placed(22, false), (Nf4, Nf4));
        assert_eq!(placed(15, true), (Nf4, Nf4));
        assert_eq!(placed(15, false), (Nf4, Nf4));
        assert_eq!(placed(8, true), (Nf4, Nf4));
        assert_eq!(placed(4, true), (Nf4, Nf4), "the smallest, though it does not fit");
        assert_eq!(place(&sizes, Some(Fp8), true, 79 * GIB).precision, Fp8);
        assert_eq!(place(&sizes, Some(Bf16), true, 4 * GIB), Placement { text: Nf4, ..Placement::on_gpu(Bf16) });
    }

    #[test]
    fn the_policy_recomputes_no_more_than_it_must() {
        let (sizes, nf4) = (flux_dev(), Placement::on_gpu(Precision::Nf4));
        let chosen = |gib: u64| choose_checkpointing(&sizes, nf4, &training(Checkpointing::Full), gib * GIB);
        assert_eq!(chosen(79), Some(Checkpointing::None));
        assert_eq!(chosen(9), Some(Checkpointing::Smart));
        assert_eq!(chosen(4), None);
    }

    #[test]
    fn what_cannot_fit_is_refused_with_what_would() {
        let (sizes, bf16) = (flux_dev(), Placement::on_gpu(Precision::Bf16));
        let workload = Workload { size: size(1024, 1024), batch: 4, ..training(Checkpointing::None) };
        assert!(check(&sizes, bf16, &workload, 400 * GIB).is_ok());
        let sentence = check(&sizes, bf16, &workload, 79 * GIB).unwrap_err().to_string();
        for part in [
            "training at 1024x1024",
            "batches of 4",
            "bf16 without checkpointing",
            "79.0 GiB",
            "16 GB: ",
            "24 GB: ",
            "48 GB: ",
            "80 GB: bf16 with",
        ] {
            assert!(sentence.contains(part), "{part:?} in {sentence}");
        }
        let sentence = check(&sizes, Placement::on_gpu(Precision::Nf4), &Workload::generate(size(1024, 1024), 512, 1), 2 * GIB)
            .unwrap_err()
            .to_string();
        assert!(sentence.contains("a picture of 1024x1024 in nf4 needs about") && sentence.contains("smaller size"), "{sentence}");
    }
}
