//! One file of tensors, memory-mapped: safetensors or GGUF, told apart by their first bytes.

use super::{gguf, read_problem, safetensors};
use crate::{Error, Result};
use candle_core::{DType, quantized::GgmlDType};
use memmap2::Mmap;
use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    ops::Range,
    path::{Path, PathBuf},
};

/// How the numbers of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Encoding {
    Plain(DType),
    /// Blocks of GGUF's.
    Blocks(GgmlDType),
    /// fp8 e4m3
    E4m3,
    U8,
    I8,
    /// Whatever else there is in a safetensors file, which no weight is stored as.
    Other(::safetensors::Dtype),
}

/// Where a tensor is in its file.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Rows first.
    pub shape: Vec<usize>,
    pub encoding: Encoding,
    pub bytes: Range<usize>,
}

/// What the head of a file says.
#[derive(Debug, Default)]
pub struct Head {
    pub entries: HashMap<String, Entry>,
    /// Texts: a safetensors header's metadata, or the values of GGUF's keys that are text.
    pub metadata: BTreeMap<String, String>,
}

pub struct TensorFile {
    pub path: PathBuf,
    map: Mmap,
    head: Head,
}

impl TensorFile {
    /// Its head is parsed and checked against the file's length.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::model(path, read_problem(&e)))?;
        // SAFETY: model files are read-only to us; one that shrinks under a running program faults, as with every memory-mapped reader.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::model(path, read_problem(&e)))?;
        let head = parse(&map).map_err(|problem| Error::model(path, problem))?;
        Ok(Self { path: path.to_owned(), map, head })
    }

    pub fn entries(&self) -> &HashMap<String, Entry> {
        &self.head.entries
    }

    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.head.metadata
    }

    pub fn bytes(&self, entry: &Entry) -> &[u8] {
        &self.map[entry.bytes.clone()]
    }
}

/// The head of a file from all its bytes; every entry lies within them.
pub fn parse(bytes: &[u8]) -> std::result::Result<Head, String> {
    match bytes {
        [b'G', b'G', b'U', b'F', ..] => gguf::parse(bytes),
        // The length of a safetensors header may be any bytes; what follows it cannot.
        [_, _, _, _, _, _, _, _, b'{', ..] => safetensors::parse(bytes),
        [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, ..] => {
            Err("a pickle of PyTorch's, which could run anything; get the safetensors file".into())
        }
        [b'<', ..] | [b'v', b'e', b'r', b's', b'i', b'o', b'n', ..] => {
            Err("not a model but a page of the site it came from, or the pointer to it; download the file itself".into())
        }
        _ => safetensors::parse(bytes),
    }
}
