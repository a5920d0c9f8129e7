//! The stored inputs of one call of the transformer.

use super::{check::values, fixtures::File};
use anyhow::Result;
use engine::{AdapterSet, DType, Pipeline, Size, Tensor, latents::PackedLatents, text_encoder::Conditioning, transformer::Step};

pub struct Call {
    pub size: Size,
    pub latents: PackedLatents,
    pub conditioning: Conditioning,
    pub sigma: Vec<f64>,
    pub guidance: Vec<f64>,
}

impl Call {
    /// `latents`: the key of the packed latents.
    pub fn read(file: &File, latents: &str) -> Result<Self> {
        let size = file.size()?;
        check_positions(file, size)?;
        let latents = file.get(latents)?.to_dtype(DType::F32)?;
        let batch = latents.dim(0)?;
        let sigma = per_picture(file, "timestep", batch)?;
        // Absent from models without guidance embedding, which do not look at it.
        let guidance = file.get_if_any("guidance").map_or(Ok(vec![1.0; batch]), |_| per_picture(file, "guidance", batch))?;
        let conditioning = Conditioning {
            pooled: file.get("pooled_projections")?.to_dtype(DType::F32)?,
            tokens: file.get("encoder_hidden_states")?.to_dtype(DType::F32)?,
        };
        Ok(Self { size, latents: PackedLatents(latents), conditioning, sigma, guidance })
    }

    pub fn step(&self) -> Step<'_> {
        Step { size: self.size, conditioning: &self.conditioning, sigma: &self.sigma, guidance: &self.guidance, modulations: None }
    }

    pub fn velocity(&self, pipeline: &Pipeline, adapters: &AdapterSet) -> Result<Tensor> {
        Ok(pipeline.transformer.forward(&self.latents, &self.step(), adapters)?)
    }
}

/// One number a picture, where the reference may store one for all.
fn per_picture(file: &File, key: &str, batch: usize) -> Result<Vec<f64>> {
    let given = values(file.get(key)?)?;
    match given.len() {
        1 => Ok(vec![given[0]; batch]),
        length if length == batch => Ok(given),
        length => Err(file.fault(format_args!("{key} has {length} values for {batch} pictures"))),
    }
}

/// The engine computes positions from the size; a reference with others is none of FLUX.1's.
fn check_positions(file: &File, size: Size) -> Result<()> {
    let (rows, columns) = size.grid();
    let expected = (0..rows).flat_map(|row| (0..columns).flat_map(move |column| [0.0, row as f64, column as f64]));
    let tokens = rows * columns * 3;
    let ids = values(file.get("img_ids")?)?;
    if ids.is_empty() || ids.len() % tokens != 0 || !ids.chunks(tokens).all(|one| one.iter().copied().eq(expected.clone())) {
        return Err(file.fault("img_ids are not (0, row, column) of every token in order"));
    }
    if let Some(ids) = file.get_if_any("txt_ids")
        && values(ids)?.iter().any(|&id| id != 0.0)
    {
        return Err(file.fault("txt_ids must be 0"));
    }
    Ok(())
}
