//! Picture → latents → picture.

use super::{
    check::{Bar, Row},
    fixtures::{File, Fixtures},
};
use anyhow::Result;
use engine::{DType, Pipeline, Tensor, latents::Latents};

pub fn rows(pipeline: &Pipeline, fixtures: &Fixtures, stage: &str) -> Result<Vec<Row>> {
    let file = fixtures.file(stage)?;
    let mut rows = Vec::new();
    if let Some(bytes) = file.get_if_any("image_u8_hwc") {
        rows.push(Row::compare(stage, "image", &from_bytes(&file, bytes)?, file.get("image")?, Bar::EXACT)?);
    }
    let picture = file.get("image")?.to_dtype(DType::F32)?;
    let posterior = pipeline.vae.encode(&picture)?;
    let latents = pipeline.vae.normalise(&posterior.mean)?;
    let encoded = [
        ("mean", posterior.mean),
        ("logvar", posterior.logvar),
        ("latents_normalised", latents.0.clone()),
        ("latents_packed", latents.pack()?.0),
    ];
    for (key, ours) in &encoded {
        if let Some(reference) = file.get_if_any(key) {
            rows.push(Row::compare(stage, *key, ours, reference, Bar::STAGE.on(pipeline))?);
        }
    }
    if let Some(reference) = file.get_if_any("decoded") {
        let ours = pipeline.vae.decode_raw(&file.get("mean")?.to_dtype(DType::F32)?)?;
        rows.push(Row::compare(stage, "decoded", &ours, reference, Bar::STAGE.on(pipeline))?);
    }
    if let Some(packed) = file.get_if_any("latents_packed") {
        rows.push(Row::compare(stage, "packed again", &Latents(file.get("latents_normalised")?.clone()).pack()?.0, packed, Bar::EXACT)?);
    }
    Ok(rows)
}

/// [H, W, 3] or [B, H, W, 3] of 0..=255 → [B, 3, H, W] of -1..=1
fn from_bytes(file: &File, bytes: &Tensor) -> Result<Tensor> {
    let batch = match bytes.rank() {
        3 => bytes.unsqueeze(0)?,
        4 => bytes.clone(),
        rank => return Err(file.fault(format_args!("image_u8_hwc has {rank} sides; 3 or 4 are expected"))),
    };
    Ok(((batch.to_dtype(DType::F32)?.permute((0, 3, 1, 2))? / 127.5)? - 1.0)?)
}
