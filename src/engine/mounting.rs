//! Adapters on a whole model, transformer and CLIP, and what they change in what it draws.

use crate::{
    Adapter, AdapterSet, Coverage, Error, Pipeline, Result, Size, adapter::TEXT_ENCODER, latents::PackedLatents, memory::Workload,
    residence::Part, text_encoder::Conditioning, transformer::Step,
};
use candle_core::Tensor;
use std::sync::Arc;

/// Adapters on the parts of a model.
pub struct Mounted {
    pub transformer: AdapterSet,
    pub clip: AdapterSet,
    /// Of each adapter.
    pub coverage: Vec<Coverage>,
}

/// The noise, prompt and moment at which a change is measured.
const SEED: u64 = 0;
const PROMPT: &str = "a painting of a lake with mountains";
const SIDE: usize = 64;
const TOKENS: usize = 32;
const SIGMA: f64 = 0.75;
const GUIDANCE: f64 = 3.5;

impl Pipeline {
    /// Mounts adapters with a strength each. One of which nothing fits is refused.
    pub fn mount(&self, adapters: &[(Arc<Adapter>, f64)]) -> Result<Mounted> {
        let (transformer, mut coverage) = AdapterSet::mount_on(self.transformer.host(), adapters)?;
        let mut clip = AdapterSet::base();
        if adapters.iter().any(|(adapter, _)| has_clip(adapter)) {
            let (set, on_clip) = self.text_encoder.mount(adapters)?;
            clip = set;
            for (whole, part) in coverage.iter_mut().zip(on_clip) {
                whole.matched.extend(part.matched);
                whole.unmatched.extend(part.unmatched);
            }
        }
        for ((adapter, _), coverage) in adapters.iter().zip(&mut coverage) {
            adapter.must_fit(coverage)?;
        }
        Ok(Mounted { transformer, clip, coverage })
    }

    /// What adapters have for CLIP, without a look at the rest.
    pub(crate) fn mount_on_clip(&self, adapters: &[(Arc<Adapter>, f64)]) -> Result<AdapterSet> {
        let any = adapters.iter().any(|(adapter, _)| has_clip(adapter));
        if any { Ok(self.text_encoder.mount(adapters)?.0) } else { Ok(AdapterSet::base()) }
    }

    /// How much an adapter at strength 1 changes the velocity for one fixed noise and prompt: |v' − v| / |v|. An adapter that changes
    /// nothing is refused: its file was written wrongly, or before it had learnt anything.
    pub fn measure(&self, adapter: &Arc<Adapter>) -> Result<f64> {
        let Mounted { transformer, clip, .. } = self.mount(&[(adapter.clone(), 1.0)])?;
        let workload = Workload::generate(Size::new(SIDE, SIDE)?, TOKENS, 1);
        self.make_room(Part::TextEncoder, &workload)?;
        let before = self.text_encoder.encode(&[PROMPT], TOKENS)?;
        let after = if clip.is_empty() { before.clone() } else { self.text_encoder.encode_with(&[PROMPT], TOKENS, &clip)? };
        self.make_room(Part::Transformer, &workload)?;
        let base = self.velocity(&before, &AdapterSet::base())?;
        let change = norm(&(self.velocity(&after, &transformer)? - &base)?)? / norm(&base)?;
        match change {
            0.0 => Err(Error::adapter(&adapter.name, "it fits this model, but changes nothing: every one of its products is zero")),
            change if change.is_finite() => Ok(change),
            _ => Err(Error::adapter(&adapter.name, "with it the numbers of a picture run off to infinity")),
        }
    }

    fn velocity(&self, conditioning: &Conditioning, adapters: &AdapterSet) -> Result<Tensor> {
        let size = Size::new(SIDE, SIDE)?;
        let noise = PackedLatents::noise(SEED, 1, size, &self.device)?;
        let step = Step { size, conditioning, sigma: &[SIGMA], guidance: &[GUIDANCE], modulations: None };
        self.transformer.forward(&noise, &step, adapters)
    }
}

fn has_clip(adapter: &Adapter) -> bool {
    adapter.modules.keys().any(|path| path.starts_with(TEXT_ENCODER))
}

fn norm(x: &Tensor) -> Result<f64> {
    Ok(f64::from(x.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt()))
}
