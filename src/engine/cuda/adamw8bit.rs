//! AdamW whose moments take one byte each, in one kernel over a flat buffer (twin: `train::optimizer::AdamW8bit`).

use super::Arg;
use super::context::Context;
use super::kernels::{self, Block, queued};
use super::storage::{base, contiguous};
use candle_core::backend::BackendDevice;
use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result};
use std::ptr::null;

/// Elements that share a scale.
pub const BLOCK: usize = 256;
/// Tensors below this keep 32-bit moments, as bitsandbytes' `min_8bit_size` has it.
pub const SMALLEST: usize = 4096;

/// AdamW's arithmetic of one step, ready for every element; the fields are those of `train::optimizer`'s rule:
/// p·keep − rate·m / (√v / root + epsilon), where m += (g − m)·new_first and v = v·beta2 + g²·new_second.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub keep: f32,
    pub new_first: f32,
    pub beta2: f32,
    pub new_second: f32,
    pub rate: f32,
    pub root: f32,
    pub epsilon: f32,
}

/// The moments of one tensor on the host, as a checkpoint of a training keeps them.
#[derive(Clone, Debug, PartialEq)]
pub enum Moments {
    /// Of a tensor below [`SMALLEST`] elements.
    Full { first: Vec<f32>, second: Vec<f32> },
    /// Codes, and a scale per block of 256.
    Quantised { first: Vec<u8>, first_scale: Vec<f32>, second: Vec<u8>, second_scale: Vec<f32> },
}

/// The moments of all tensors of a flat buffer, on the device.
pub struct AdamW8bit {
    device: CudaDevice,
    lengths: Vec<usize>,
    /// How many blocks there are, and what each is.
    count: usize,
    blocks: CudaStorage,
    /// The signed and the unsigned code, one after the other, and the smallest unsigned code above zero.
    codes: CudaStorage,
    first_positive: i32,
    state: State<CudaStorage>,
}

/// Codes have one place per element of the flat buffer, scales one per block, 32-bit moments one per element of a small tensor.
struct State<T> {
    first: T,
    second: T,
    first_scale: T,
    second_scale: T,
    full_first: T,
    full_second: T,
}

/// The same on the host.
struct HostState {
    codes: [Vec<u8>; 2],
    scales: [Vec<f32>; 2],
    full: [Vec<f32>; 2],
}

impl AdamW8bit {
    /// Zero moments. `lengths`: of the tensors in the flat buffer, in order. `codes`: the values of the signed and of the unsigned dynamic
    /// code, ascending (`quant::dynamic`).
    pub fn new(device: &CudaDevice, lengths: &[usize], codes: [&[f32; 256]; 2]) -> Result<Self> {
        let blocks = blocks(lengths);
        let words: Vec<u32> = blocks.iter().flat_map(|block| [block.start, block.length as u32, block.full as u32]).collect();
        let first_positive = codes[1].partition_point(|&value| value <= 0.0) as i32;
        let zero = codes.map(|code| code.partition_point(|&value| value < 0.0) as u8);
        let elements: usize = lengths.iter().sum();
        let small = lengths.iter().filter(|&&length| length < SMALLEST).sum::<usize>();
        let host = HostState {
            codes: zero.map(|zero| vec![zero; elements]),
            scales: [vec![0.0; blocks.len()], vec![0.0; blocks.len()]],
            full: [vec![0.0; small], vec![0.0; small]],
        };
        Ok(Self {
            device: device.clone(),
            lengths: lengths.to_vec(),
            count: blocks.len(),
            blocks: device.storage_from_slice(&words)?,
            codes: device.storage_from_slice(&[*codes[0], *codes[1]].concat())?,
            first_positive,
            state: host.upload(device)?,
        })
    }

    /// One step. parameters, gradients: contiguous [n] f32. `clip`: (Σ g² as [`super::reduce::sum_of_squares`] left it, the largest norm
    /// allowed): gradients are scaled by min(1, most / (√Σ + 1e-6)) as they are read, and no host waits for the sum.
    pub fn step(&mut self, rule: Rule, parameters: &mut CudaStorage, gradients: Arg, clip: Option<(&CudaStorage, f32)>) -> Result<()> {
        let context = Context::of(&self.device)?;
        let elements: usize = self.lengths.iter().sum();
        let flat = Layout::contiguous(elements); // an allocation may be longer
        let of = kernels::AdamW8bit {
            blocks: base(&self.blocks).cast(),
            count: self.count as i32,
            first_positive: self.first_positive,
            parameters: contiguous((parameters, &flat), DType::F32, elements, "the parameters")?.cast(),
            gradients: contiguous(gradients, DType::F32, elements, "their gradients")?.cast(),
            first: base(&self.state.first).cast(),
            second: base(&self.state.second).cast(),
            first_scale: base(&self.state.first_scale).cast(),
            second_scale: base(&self.state.second_scale).cast(),
            full_first: base(&self.state.full_first).cast(),
            full_second: base(&self.state.full_second).cast(),
            signed_code: base(&self.codes).cast(),
            unsigned_code: base(&self.codes).cast::<f32>().wrapping_add(256),
            sum_of_squares: clip.map_or(null(), |(sum, _)| base(sum).cast()),
            largest_norm: clip.map_or(0.0, |(_, most)| most),
        };
        if self.count == 0 {
            return Ok(());
        }
        // SAFETY: every buffer has the size that `blocks` reaches into, as `new` made them and the two checks above found.
        queued(unsafe { kernels::atelier_adamw8bit(of, rule, context.stream()) }, "adamw8bit")
    }

    /// Waits for the stream and reads the moments, tensor by tensor.
    pub fn moments(&self) -> Result<Vec<Moments>> {
        let state = self.state.download()?;
        let (mut element, mut block, mut full) = (0, 0, 0);
        let moments = self.lengths.iter().map(|&length| {
            let blocks = length.div_ceil(BLOCK);
            let moments = if length < SMALLEST {
                let [first, second] = state.full.each_ref().map(|values| values[full..][..length].to_vec());
                full += length;
                Moments::Full { first, second }
            } else {
                let [first, second] = state.codes.each_ref().map(|codes| codes[element..][..length].to_vec());
                let [first_scale, second_scale] = state.scales.each_ref().map(|scales| scales[block..][..blocks].to_vec());
                Moments::Quantised { first, first_scale, second, second_scale }
            };
            element += length;
            block += blocks;
            moments
        });
        Ok(moments.collect())
    }

    /// Replaces the moments by what [`Self::moments`] returned.
    ///
    /// # Errors
    /// Tensors of other lengths.
    pub fn restore(&mut self, moments: &[Moments]) -> Result<()> {
        let mut state = HostState { codes: [vec![], vec![]], scales: [vec![], vec![]], full: [vec![], vec![]] };
        for (moments, &length) in moments.iter().zip(&self.lengths) {
            state.push(moments, length)?;
        }
        if moments.len() != self.lengths.len() {
            candle_core::bail!("moments of {} tensors, but there are {}", moments.len(), self.lengths.len());
        }
        self.state = state.upload(&self.device)?;
        Ok(())
    }
}

impl HostState {
    fn push(&mut self, moments: &Moments, length: usize) -> Result<()> {
        let blocks = length.div_ceil(BLOCK);
        match moments {
            Moments::Full { first, second } if length < SMALLEST && [first.len(), second.len()] == [length; 2] => {
                self.full[0].extend(first);
                self.full[1].extend(second);
                self.codes.iter_mut().for_each(|codes| codes.resize(codes.len() + length, 0));
                self.scales.iter_mut().for_each(|scales| scales.resize(scales.len() + blocks, 0.0));
            }
            Moments::Quantised { first, first_scale, second, second_scale }
                if length >= SMALLEST
                    && [first.len(), second.len()] == [length; 2]
                    && [first_scale.len(), second_scale.len()] == [blocks; 2] =>
            {
                self.codes[0].extend(first);
                self.codes[1].extend(second);
                self.scales[0].extend(first_scale);
                self.scales[1].extend(second_scale);
            }
            _ => candle_core::bail!("the moments saved for a tensor of {length} elements are of another length"),
        }
        Ok(())
    }

    fn upload(&self, device: &CudaDevice) -> Result<State<CudaStorage>> {
        let bytes = |values: &[u8]| device.storage_from_slice(values);
        // A device has no memory of no bytes: where no tensor is small, there is one moment that nobody reads.
        let floats = |values: &[f32]| device.storage_from_slice(if values.is_empty() { &[0.0] } else { values });
        Ok(State {
            first: bytes(&self.codes[0])?,
            second: bytes(&self.codes[1])?,
            first_scale: floats(&self.scales[0])?,
            second_scale: floats(&self.scales[1])?,
            full_first: floats(&self.full[0])?,
            full_second: floats(&self.full[1])?,
        })
    }
}

impl State<CudaStorage> {
    fn download(&self) -> Result<HostState> {
        let bytes = |storage: &CudaStorage| storage.device.clone_dtoh(storage.as_cuda_slice::<u8>()?);
        let floats = |storage: &CudaStorage| storage.device.clone_dtoh(storage.as_cuda_slice::<f32>()?);
        Ok(HostState {
            codes: [bytes(&self.first)?, bytes(&self.second)?],
            scales: [floats(&self.first_scale)?, floats(&self.second_scale)?],
            full: [floats(&self.full_first)?, floats(&self.full_second)?],
        })
    }
}

/// Every tensor starts a block of its own.
fn blocks(lengths: &[usize]) -> Vec<Block> {
    let (mut start, mut full) = (0, 0);
    let mut blocks = Vec::new();
    for &length in lengths {
        let small = length < SMALLEST;
        for from in (0..length).step_by(BLOCK) {
            let full = if small { (full + from) as i32 } else { -1 };
            blocks.push(Block { start: (start + from) as u32, length: (length - from).min(BLOCK) as i32, full });
        }
        start += length;
        full += if small { length } else { 0 };
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_each_tensor_once() {
        let lengths = [300, SMALLEST, 1, SMALLEST + 10];
        let blocks = blocks(&lengths);
        assert_eq!(blocks.len(), 2 + 16 + 1 + 17);
        let mut next = 0;
        for block in &blocks {
            assert_eq!(block.start, next);
            next += block.length as u32;
        }
        assert_eq!(next as usize, lengths.iter().sum::<usize>());
        assert_eq!(blocks[1], Block { start: 256, length: 44, full: 256 });
        assert_eq!(blocks[2], Block { start: 300, length: 256, full: -1 });
        assert_eq!(blocks[18], Block { start: 300 + SMALLEST as u32, length: 1, full: 300 });
    }
}
