//! Token ids → token vectors.

use crate::{Error, Result};
use candle_core::{Device, Tensor};

/// table: [vocab, C], ids: B rows of S → [B, S, C]. An id beyond the vocabulary means that tokenizer and model do not belong together.
pub fn embed(table: &Tensor, ids: &[Vec<u32>], device: &Device) -> Result<Tensor> {
    let (vocab, width) = table.dims2()?;
    if let Some(id) = ids.iter().flatten().find(|&&id| id as usize >= vocab) {
        return Err(Error::invalid(format!(
            "token id {id} is beyond the text encoder's vocabulary of {vocab}: the tokenizer is another model's"
        )));
    }
    let (rows, tokens) = (ids.len(), ids.first().map_or(0, Vec::len));
    let flat = Tensor::from_vec(ids.concat(), rows * tokens, device)?;
    Ok(table.index_select(&flat, 0)?.reshape((rows, tokens, width))?)
}
