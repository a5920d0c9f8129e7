//! Which parts of a model are on its device: the transformer always, text encoders and VAE as long as there is room.

use crate::{
    Error, Model, Pipeline, Precision, Result, device,
    memory::{self, Peak, Placement, Processor, Sizes, Workload},
    text_encoder::TextEncoder,
    vae::Vae,
};
use candle_core::Device;

/// Who works next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    TextEncoder,
    Transformer,
    Vae,
}

/// How the model is to be held on this device. What cannot work there is refused.
pub(crate) fn place(sizes: &Sizes, device: &Device, wanted: Option<Precision>) -> Result<Placement> {
    let Some(gpu) = device::gpu_of(device)? else {
        let precision = wanted.unwrap_or(Precision::F32);
        return Ok(Placement { on: Processor::Cpu, precision, text: precision });
    };
    if wanted == Some(Precision::Fp8) && !gpu.has_fp8() {
        let (major, minor) = gpu.compute_capability;
        return Err(Error::invalid(format!(
            "precision fp8: {} has compute capability {major}.{minor}, and its products in fp8 begin with 8.9 (L4, RTX 40, H100); choose bf16 or nf4",
            gpu.name
        )));
    }
    let free = device::memory(device)?.free;
    let placement = memory::place(sizes, wanted, gpu.has_fp8(), free);
    memory::check(sizes, placement, &Workload::generate(sizes.usual_size(), 512, 1), free)?;
    Ok(placement)
}

/// Text encoders and VAE; on the CPU loaded at once, so that a broken file is found now and the first picture does not wait.
pub(crate) fn open(model: &Model, device: &Device, placement: Placement) -> Result<(TextEncoder, Vae)> {
    let others = if device.is_cpu() { Precision::F32 } else { placement.precision.unquantised() };
    let (text_encoder, vae) = (TextEncoder::open(model, device, [others, placement.text])?, Vae::open(model, device, others)?);
    if device.is_cpu() {
        let (encoders, weights) = rayon::join(|| text_encoder.load(), || vae.load());
        encoders.and(weights)?;
    }
    Ok((text_encoder, vae))
}

impl Pipeline {
    /// Loads text encoders and VAE now where a picture of the usual size leaves them room; else each comes when it is needed.
    pub(crate) fn load_what_fits(&self) -> Result<()> {
        let peak = self.peak(&Workload::generate(self.sizes.usual_size(), 512, 1));
        if !self.device.is_cpu() && device::memory(&self.device)?.free >= peak.whole() - peak.transformer {
            self.text_encoder.load()?;
            self.vae.load()?;
        }
        Ok(())
    }

    /// What the work needs at its peak, part by part.
    pub fn peak(&self, workload: &Workload) -> Peak {
        Peak::of(&self.sizes, self.placement, workload)
    }

    /// Bytes of the device that the model and its work may take together: what is free, and what the model holds already.
    pub fn budget(&self) -> Result<u64> {
        let peak = self.peak(&Workload::generate(self.sizes.usual_size(), 1, 1));
        let parts = [(Part::Transformer, peak.transformer), (Part::TextEncoder, peak.text_encoder), (Part::Vae, peak.vae)];
        let held: u64 = parts.into_iter().filter(|(part, _)| self.is_resident(*part)).map(|(_, bytes)| bytes).sum();
        Ok(device::memory(&self.device)?.free + held)
    }

    /// Refuses work that cannot fit the GPU, with what would fit. On the CPU the system finds room, on disk if it must.
    pub fn check_memory(&self, workload: &Workload) -> Result<()> {
        if self.device.is_cpu() {
            return Ok(());
        }
        memory::check(&self.sizes, self.placement, workload, self.budget()?)
    }

    /// Evicts others until `part` has room to work; does nothing on the CPU, or where there is room.
    pub fn make_room(&self, part: Part, workload: &Workload) -> Result<()> {
        // Of the encoders one alone may be here, so nobody is asked.
        let others = [Part::TextEncoder, Part::Vae].into_iter().filter(|other| *other != part);
        if self.device.is_cpu() {
            return Ok(());
        }
        let needed = self.needed(part, &self.peak(workload));
        for other in others {
            if device::memory(&self.device)?.free >= needed {
                break;
            }
            self.evict(other);
        }
        Ok(())
    }

    /// Frees a part's memory until it is needed again. The transformer stays.
    pub fn evict(&self, part: Part) {
        match part {
            Part::TextEncoder => self.text_encoder.evict(),
            Part::Vae => self.vae.evict(),
            Part::Transformer => {}
        }
    }

    fn is_resident(&self, part: Part) -> bool {
        match part {
            Part::TextEncoder => self.text_encoder.is_resident(),
            Part::Vae => self.vae.is_resident(),
            Part::Transformer => true,
        }
    }

    /// Its own weights, if they are not here, and what it needs while it works.
    fn needed(&self, part: Part, peak: &Peak) -> u64 {
        let absent = |bytes: u64| if self.is_resident(part) { 0 } else { bytes };
        match part {
            Part::TextEncoder => absent(peak.text_encoder) + peak.encoding,
            Part::Transformer => peak.step,
            // To load T5 again takes seconds, to decode in tiles a fraction of one.
            Part::Vae => absent(peak.vae) + peak.picture.min(peak.tile),
        }
    }
}
