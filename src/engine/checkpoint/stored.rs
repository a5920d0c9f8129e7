//! A tensor from the form it is stored in to plain numbers: bf16, f16 and f32 as they are; fp8, GGUF's blocks and bitsandbytes' codes dequantised.

use super::file::{Encoding, Entry, TensorFile};
use crate::{Error, Result, quant::fp8};
use candle_core::{
    DType, Device, Tensor,
    quantized::{GgmlDType, QStorage, QTensor},
};
use rayon::prelude::*;
use serde::Deserialize;
use std::borrow::Cow;

/// How bitsandbytes' name for the state of a four-bit weight begins; the code's name follows.
const QUANT_STATE: &str = ".quant_state.bitsandbytes__";

/// A tensor of one of a part's files, and the lookup of its companions, which may lie in another.
pub struct Stored<'a> {
    /// In the file.
    pub key: &'a str,
    pub file: &'a TensorFile,
    pub entry: &'a Entry,
    pub find: &'a dyn Fn(&str) -> Option<(&'a TensorFile, &'a Entry)>,
}

impl Stored<'_> {
    /// The shape of what comes out: bitsandbytes' codes do not show it.
    pub fn shape(&self) -> Result<Vec<usize>> {
        match self.entry.encoding {
            Encoding::U8 => Ok(self.quant_state()?.1.shape),
            _ => Ok(self.entry.shape.clone()),
        }
    }

    /// Whether reading some rows costs as much as reading them all.
    pub fn is_quantised(&self) -> bool {
        !matches!(self.entry.encoding, Encoding::Plain(_))
    }

    /// All of it, on the CPU: in its own type, or f32 where it was quantised.
    pub fn values(&self) -> Result<Tensor> {
        let bytes = self.file.bytes(self.entry);
        match self.entry.encoding {
            Encoding::Plain(dtype) => Ok(Tensor::from_raw_buffer(bytes, dtype, &self.entry.shape, &Device::Cpu)?),
            Encoding::Blocks(kind) => self.blocks(bytes, kind),
            Encoding::E4m3 => self.e4m3(bytes),
            Encoding::U8 => self.four_bit(bytes),
            Encoding::I8 => self.int8(bytes),
            Encoding::Other(dtype) => {
                Err(self.refuse(format!("is stored as {dtype}; bf16, f16, f32, fp8 e4m3, NF4, int8 and GGUF's blocks are read")))
            }
        }
    }

    /// Some rows of a tensor that is not quantised.
    pub fn rows(&self, first: usize, count: usize, device: &Device) -> Result<Tensor> {
        let Encoding::Plain(dtype) = self.entry.encoding else { return Err(self.refuse("is quantised")) };
        let mut shape = self.entry.shape.clone();
        let row = dtype.size_in_bytes() * shape.iter().skip(1).product::<usize>();
        shape[0] = count;
        let bytes = &self.file.bytes(self.entry)[first * row..(first + count) * row];
        Ok(Tensor::from_raw_buffer(bytes, dtype, &shape, device)?)
    }

    fn blocks(&self, bytes: &[u8], kind: GgmlDType) -> Result<Tensor> {
        let storage = QStorage::from_data(Cow::Borrowed(bytes), &Device::Cpu, kind)?;
        Ok(QTensor::new(storage, self.entry.shape.as_slice())?.dequantize(&Device::Cpu)?)
    }

    /// With the scale that ComfyUI keeps beside it, if there is one.
    fn e4m3(&self, bytes: &[u8]) -> Result<Tensor> {
        let stem = self.key.strip_suffix(".weight").unwrap_or(self.key);
        let scale = ["scale_weight", "weight_scale"].iter().find_map(|name| self.companion(&format!("{stem}.{name}")));
        let values = bytes.par_iter().map(|code| fp8::decode(*code)).collect::<Vec<f32>>();
        let values = Tensor::from_vec(values, self.entry.shape.as_slice(), &Device::Cpu)?;
        let Some(scale) = scale.transpose()? else { return Ok(values) };
        let rows = self.entry.shape.first().copied().unwrap_or(1);
        match scale.elem_count() {
            1 => Ok(values.broadcast_mul(&scale.flatten_all()?)?),
            count if count == rows && self.entry.shape.len() == 2 => Ok(values.broadcast_mul(&scale.reshape((rows, 1))?)?),
            count => Err(self.refuse(format!("has {count} scales; one for all, or one for each of {rows} rows is read"))),
        }
    }

    /// int8 with a scale for each row (LLM.int8).
    fn int8(&self, bytes: &[u8]) -> Result<Tensor> {
        let (&[rows, columns], Some(stem)) = (self.entry.shape.as_slice(), self.key.strip_suffix("weight")) else {
            return Err(self.refuse("is stored as int8, but is not the weight of a layer"));
        };
        let scales = self.numbers(&format!("{stem}SCB"), rows)?;
        if bytes.len() != rows * columns {
            return Err(self.refuse("has fewer codes than its shape says"));
        }
        let row = |(codes, scale): (&[u8], &f32)| codes.iter().map(|code| f32::from(*code as i8) * scale / 127.0).collect::<Vec<_>>();
        let values: Vec<f32> = bytes.par_chunks_exact(columns.max(1)).zip(&scales).flat_map_iter(row).collect();
        Ok(Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
    }

    /// NF4 or FP4: two codes a byte, a largest magnitude for each block, itself perhaps in eight bits.
    fn four_bit(&self, bytes: &[u8]) -> Result<Tensor> {
        let (_, state) = self.quant_state()?;
        let count: usize = state.shape.iter().product();
        if state.blocksize == 0 || bytes.len() != count.div_ceil(2) {
            return Err(self.refuse(format!(
                "has {} bytes of codes, but its state speaks of {count} values in blocks of {}",
                bytes.len(),
                state.blocksize
            )));
        }
        let map: [f32; 16] = self.numbers(&format!("{}.quant_map", self.key), 16)?.try_into().expect("sixteen");
        let absmax = self.absmax(&state, count.div_ceil(state.blocksize))?;
        let value = |at: usize| {
            let byte = bytes[at / 2];
            let code = if at.is_multiple_of(2) { byte >> 4 } else { byte & 15 };
            map[usize::from(code)] * absmax[at / state.blocksize]
        };
        let values = Tensor::from_vec((0..count).into_par_iter().map(value).collect::<Vec<_>>(), state.shape.as_slice(), &Device::Cpu)?;
        // As bitsandbytes gives them: rounded to the type that the weight had.
        Ok(match state.dtype.as_str() {
            "bfloat16" => values.to_dtype(DType::BF16)?,
            "float16" => values.to_dtype(DType::F16)?,
            _ => values,
        })
    }

    fn absmax(&self, state: &QuantState, blocks: usize) -> Result<Vec<f32>> {
        let key = format!("{}.absmax", self.key);
        let Some(size) = state.nested_blocksize.filter(|size| *size > 0) else { return self.numbers(&key, blocks) };
        let (file, entry) = (self.find)(&key).ok_or_else(|| self.refuse(format!("has no {key} beside it")))?;
        let codes = file.bytes(entry);
        if entry.encoding != Encoding::U8 || codes.len() != blocks {
            return Err(self.refuse(format!("has a {key} of {} bytes; {blocks} are expected", codes.len())));
        }
        let map = self.numbers(&format!("{}.nested_quant_map", self.key), 256)?;
        let scales = self.numbers(&format!("{}.nested_absmax", self.key), blocks.div_ceil(size))?;
        let value = |(block, code): (usize, &u8)| map[usize::from(*code)] * scales[block / size] + state.nested_offset;
        Ok(codes.iter().enumerate().map(value).collect())
    }

    /// The name of the code, and what bitsandbytes says of this weight.
    fn quant_state(&self) -> Result<(&'static str, QuantState)> {
        for code in ["nf4", "fp4"] {
            if let Some((file, entry)) = (self.find)(&format!("{}{QUANT_STATE}{code}", self.key)) {
                let state: QuantState = serde_json::from_slice(file.bytes(entry))
                    .map_err(|e| self.refuse(format!("has a state of bitsandbytes that cannot be read: {e}")))?;
                if state.shape.iter().try_fold(1, |count: usize, side| count.checked_mul(*side)).is_none() {
                    return Err(self.refuse(format!("has a state of bitsandbytes with the shape {:?}, which no memory holds", state.shape)));
                }
                return Ok((code, state));
            }
        }
        Err(self.refuse("is stored as U8, but no state of bitsandbytes' NF4 lies beside it"))
    }

    /// A small tensor of that many numbers beside this one.
    fn numbers(&self, key: &str, count: usize) -> Result<Vec<f32>> {
        let tensor = self.companion(key).ok_or_else(|| self.refuse(format!("has no {key} beside it")))??;
        let numbers = tensor.flatten_all()?.to_vec1::<f32>()?;
        if numbers.len() == count {
            Ok(numbers)
        } else {
            Err(self.refuse(format!("has a {key} of {} numbers; {count} are expected", numbers.len())))
        }
    }

    fn companion(&self, key: &str) -> Option<Result<Tensor>> {
        let (file, entry) = (self.find)(key)?;
        Some(match entry.encoding {
            Encoding::Plain(dtype) => Tensor::from_raw_buffer(file.bytes(entry), dtype, &entry.shape, &Device::Cpu)
                .and_then(|tensor| tensor.to_dtype(DType::F32))
                .map_err(Error::from),
            other => Err(self.refuse(format!("has a {key} stored as {other:?}; a number is expected"))),
        })
    }

    fn refuse(&self, problem: impl std::fmt::Display) -> Error {
        Error::model(&self.file.path, format!("tensor {} {problem}", self.key))
    }
}

/// bitsandbytes `functional.py`: `QuantState.as_dict`.
#[derive(Deserialize)]
struct QuantState {
    blocksize: usize,
    dtype: String,
    shape: Vec<usize>,
    nested_blocksize: Option<usize>,
    #[serde(default)]
    nested_offset: f32,
}
