//! Pairs on diffusers' layers as pairs on BFL's, which hold several of them side by side.

use super::LoraPair;
use crate::{Error, Result, bfl::Fused};
use candle_core::Tensor;
use std::collections::BTreeMap;

/// pairs: by diffusers' path, their scale 1 → by BFL's name.
pub fn fused(pairs: BTreeMap<String, LoraPair>) -> Result<BTreeMap<String, LoraPair>> {
    let mut layers = BTreeMap::<String, (Fused, Vec<Option<LoraPair>>)>::new();
    for (path, pair) in pairs {
        let Some((fused, index)) = Fused::holding(&path) else {
            return Err(Error::invalid(format!("{path}: BFL's transformer has no such layer")));
        };
        let (_, parts) = layers.entry(fused.name.clone()).or_insert_with(|| {
            let parts = vec![None; fused.parts.len()];
            (fused, parts)
        });
        parts[index] = Some(pair);
    }
    layers.into_iter().map(|(name, (fused, parts))| Ok((name, fuse(&fused, parts)?))).collect()
}

/// One pair for all parts; those without one are left as they are by zeros in B.
fn fuse(fused: &Fused, parts: Vec<Option<LoraPair>>) -> Result<LoraPair> {
    let given: Vec<&LoraPair> = parts.iter().flatten().collect();
    if let [only] = parts.as_slice() {
        let pair = only.as_ref().expect("a layer is made for a pair");
        return Ok(LoraPair { b: turned(fused, pair)?, ..pair.clone() });
    }
    let widths = widths(&parts, given[0].a.dims()[1], given[0].b.dims()[0]);
    // What came out of one fused layer goes back with its rank.
    let shared = given[1..].iter().map(|pair| same(&pair.a, &given[0].a)).collect::<Result<Vec<_>>>()?.into_iter().all(|same| same);
    let a = if shared { given[0].a.clone() } else { Tensor::cat(&given.iter().map(|pair| &pair.a).collect::<Vec<_>>(), 0)? };
    let (rank, mut first) = (a.dims()[0], 0);
    let mut rows = Vec::new();
    for (part, width) in parts.iter().zip(widths) {
        let zeros = |columns: usize| Tensor::zeros((width, columns), a.dtype(), a.device());
        rows.push(match part {
            None => zeros(rank)?,
            Some(pair) if shared => pair.b.clone(),
            Some(pair) => {
                let start = first;
                first += pair.rank();
                Tensor::cat(&[zeros(start)?, pair.b.clone(), zeros(rank - first)?], 1)?
            }
        });
    }
    Ok(LoraPair { a, b: Tensor::cat(&rows, 0)?, scale: 1.0 })
}

/// Outputs of each part: q, k and v are as wide as each other, and the MLP beside them in a single block four times as wide as what it reads.
fn widths(parts: &[Option<LoraPair>], inputs: usize, outputs: usize) -> Vec<usize> {
    let given = |i: usize| parts[i].as_ref().map(|pair| pair.b.dims()[0]);
    match parts.len() {
        4 => [inputs, inputs, inputs, given(3).unwrap_or(4 * inputs)].into(),
        count => vec![outputs; count],
    }
}

/// B with its rows in BFL's order.
fn turned(fused: &Fused, pair: &LoraPair) -> Result<Tensor> {
    let (outputs, inputs) = (pair.b.dims()[0], pair.a.dims()[1]);
    let rows = fused.rows(outputs, inputs).ok_or_else(|| Error::invalid(format!("{}: {outputs} outputs cannot be halved", fused.name)))?;
    // Halves that are turned twice are where they were.
    let rows = rows[0].iter().map(|range| pair.b.narrow(0, range.start, range.len())).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Tensor::cat(&rows, 0)?)
}

fn same(one: &Tensor, other: &Tensor) -> Result<bool> {
    Ok(one.dims() == other.dims() && one.flatten_all()?.to_vec1::<f32>()? == other.flatten_all()?.to_vec1::<f32>()?)
}
