//! The head of a GGUF file (versions 2 and 3): its keys, and where its tensors are.
//!
//! ggml `docs/gguf.md`.

use super::file::{Encoding, Entry, Head};
use candle_core::{DType, quantized::GgmlDType};
use std::collections::{BTreeMap, HashMap};

type Result<T> = std::result::Result<T, String>;

/// What the largest file people have holds a hundredth of: more is damage.
const MOST_TENSORS: u64 = 1 << 16;
const MOST_KEYS: u64 = 1 << 16;
const MOST_DIMENSIONS: u32 = 4;
/// Arrays of arrays go no deeper.
const MOST_DEPTH: usize = 4;
/// candle reads blocks where they lie, so that is where they must be aligned.
const LEAST_ALIGNMENT: u64 = 8;

pub fn parse(bytes: &[u8]) -> Result<Head> {
    let mut reader = Reader { bytes, at: 4 };
    let version = reader.u32()?;
    if !(2..=3).contains(&version) {
        return Err(format!("GGUF version {version}: versions 2 and 3 are read"));
    }
    let (tensors, keys) = (reader.u64()?, reader.u64()?);
    if tensors > MOST_TENSORS || keys > MOST_KEYS {
        return Err(format!("a damaged GGUF file: it says that it has {tensors} tensors and {keys} keys"));
    }
    let (mut metadata, mut alignment) = (BTreeMap::new(), 32);
    for _ in 0..keys {
        let (key, kind) = (reader.text()?, reader.u32()?);
        match reader.value(kind, 0)? {
            Value::Text(text) => drop(metadata.insert(key, text)),
            Value::Number(number) if key == "general.alignment" => alignment = number,
            _ => {}
        }
    }
    if !alignment.is_power_of_two() || !(LEAST_ALIGNMENT..=1 << 20).contains(&alignment) {
        return Err(format!("general.alignment {alignment}: powers of two from {LEAST_ALIGNMENT} on are read"));
    }
    let infos = (0..tensors).map(|_| reader.tensor()).collect::<Result<Vec<_>>>()?;
    let data = (reader.at as u64).next_multiple_of(alignment);
    let mut entries = HashMap::new();
    for Info { name, shape, encoding, offset, length } in infos {
        let start =
            data.checked_add(offset).filter(|start| start % alignment == 0).ok_or_else(|| format!("tensor {name} is not aligned"))?;
        let end = start.checked_add(length).filter(|end| *end <= bytes.len() as u64);
        let end = end.ok_or_else(|| format!("truncated: tensor {name} ends beyond the file; download it again"))?;
        if entries.insert(name.clone(), Entry { shape, encoding, bytes: start as usize..end as usize }).is_some() {
            return Err(format!("tensor {name} is there twice"));
        }
    }
    Ok(Head { entries, metadata })
}

enum Value {
    Text(String),
    Number(u64),
    Other,
}

struct Info {
    name: String,
    shape: Vec<usize>,
    encoding: Encoding,
    offset: u64,
    length: u64,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8]> {
        let end = usize::try_from(count).ok().and_then(|count| self.at.checked_add(count)).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or("truncated: its head ends beyond the file; download it again")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes")))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes")))
    }

    fn text(&mut self) -> Result<String> {
        let length = self.u64()?;
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    /// Reads or skips a value of GGUF's type `kind`.
    fn value(&mut self, kind: u32, depth: usize) -> Result<Value> {
        const TEXT: u32 = 8;
        const ARRAY: u32 = 9;
        match kind {
            TEXT => Ok(Value::Text(self.text()?)),
            ARRAY => self.array(depth),
            _ => {
                let mut wide = [0; 8];
                let number = self.take(width(kind)?)?;
                wide[..number.len()].copy_from_slice(number);
                Ok(Value::Number(u64::from_le_bytes(wide)))
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value> {
        let (kind, count) = (self.u32()?, self.u64()?);
        if depth >= MOST_DEPTH {
            return Err("a damaged GGUF file: arrays within arrays".into());
        }
        match width(kind) {
            Ok(width) => drop(self.take(width.checked_mul(count).ok_or("a damaged GGUF file: an endless array")?)?),
            // Each takes some bytes, so a false count ends at the end of the file.
            Err(_) => (0..count).try_for_each(|_| self.value(kind, depth + 1).map(drop))?,
        }
        Ok(Value::Other)
    }

    fn tensor(&mut self) -> Result<Info> {
        let (name, dimensions) = (self.text()?, self.u32()?);
        if dimensions > MOST_DIMENSIONS {
            return Err(format!("tensor {name} has {dimensions} dimensions; at most {MOST_DIMENSIONS} are read"));
        }
        // Columns come first.
        let mut shape = (0..dimensions).map(|_| self.u64()).collect::<Result<Vec<_>>>()?;
        shape.reverse();
        let (kind, offset) = (self.u32()?, self.u64()?);
        let encoding = encoding(kind).ok_or_else(|| format!("tensor {name} is of GGUF's type {kind}; {READ} are read"))?;
        let length = length(&shape, encoding).ok_or_else(|| format!("tensor {name} {shape:?} is no whole number of blocks"))?;
        let shape = shape.into_iter().map(|n| n as usize).collect();
        Ok(Info { name, shape, encoding, offset, length })
    }
}

/// Bytes of a value of fixed width.
fn width(kind: u32) -> Result<u64> {
    match kind {
        0 | 1 | 7 => Ok(1),
        2 | 3 => Ok(2),
        4..=6 => Ok(4),
        10..=12 => Ok(8),
        _ => Err(format!("a damaged GGUF file: a value of type {kind}")),
    }
}

const READ: &str = "F32, F16, BF16, Q8_0, Q6_K, Q5_K, Q5_0, Q5_1, Q4_K, Q4_0, Q4_1, Q3_K and Q2_K";

fn encoding(kind: u32) -> Option<Encoding> {
    Some(match kind {
        0 => Encoding::Plain(DType::F32),
        1 => Encoding::Plain(DType::F16),
        30 => Encoding::Plain(DType::BF16),
        2 => Encoding::Blocks(GgmlDType::Q4_0),
        3 => Encoding::Blocks(GgmlDType::Q4_1),
        6 => Encoding::Blocks(GgmlDType::Q5_0),
        7 => Encoding::Blocks(GgmlDType::Q5_1),
        8 => Encoding::Blocks(GgmlDType::Q8_0),
        10 => Encoding::Blocks(GgmlDType::Q2K),
        11 => Encoding::Blocks(GgmlDType::Q3K),
        12 => Encoding::Blocks(GgmlDType::Q4K),
        13 => Encoding::Blocks(GgmlDType::Q5K),
        14 => Encoding::Blocks(GgmlDType::Q6K),
        _ => return None,
    })
}

/// Bytes of a tensor; blocks run along rows.
fn length(shape: &[u64], encoding: Encoding) -> Option<u64> {
    let (block, size) = match encoding {
        Encoding::Plain(dtype) => (1, dtype.size_in_bytes() as u64),
        Encoding::Blocks(kind) => (kind.block_size() as u64, kind.type_size() as u64),
        _ => return None,
    };
    let row = shape.last().copied().unwrap_or(1);
    let count = shape.iter().try_fold(1u64, |count, n| count.checked_mul(*n))?;
    row.is_multiple_of(block).then(|| (count / block).checked_mul(size))?
}
