//! The head of a safetensors file.

use super::file::{Encoding, Entry, Head};
use ::safetensors::{Dtype, SafeTensors};
use candle_core::DType;

pub fn parse(bytes: &[u8]) -> Result<Head, String> {
    let (header, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|e| format!("truncated or not a safetensors file ({e}); download it again"))?;
    let data = header + 8;
    let entries = metadata.tensors().into_iter().map(|(key, info)| {
        let (start, end) = info.data_offsets;
        (key, Entry { shape: info.shape.clone(), encoding: encoding(info.dtype), bytes: data + start..data + end })
    });
    Ok(Head { entries: entries.collect(), metadata: metadata.metadata().clone().unwrap_or_default().into_iter().collect() })
}

fn encoding(dtype: Dtype) -> Encoding {
    match dtype {
        Dtype::BF16 => Encoding::Plain(DType::BF16),
        Dtype::F16 => Encoding::Plain(DType::F16),
        Dtype::F32 => Encoding::Plain(DType::F32),
        Dtype::F8_E4M3 => Encoding::E4m3,
        Dtype::U8 => Encoding::U8,
        Dtype::I8 => Encoding::I8,
        other => Encoding::Other(other),
    }
}
