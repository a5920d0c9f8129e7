//! A whole sampling from stored noise: every step's latents, the final ones, the picture.

use super::super::fault::usage;
use super::{
    check::{Bar, Row},
    fixtures::Fixtures,
    text::{self, Prompts},
};
use anyhow::Result;
use engine::{DType, Device, GenerateParams, Pipeline, Size, Tensor, latents::PackedLatents, text_encoder::Conditioning};
use serde::Deserialize;

#[derive(Deserialize)]
struct Settings {
    width: usize,
    height: usize,
    steps: usize,
    guidance: f64,
    prompt: Option<Prompts>,
    max_sequence_length: Option<usize>,
}

pub fn rows(pipeline: &Pipeline, fixtures: &Fixtures, stage: &str) -> Result<Vec<Row>> {
    let file = fixtures.file(stage)?;
    let section = if fixtures.has(stage) { stage } else { "sampling" };
    let settings: Settings = fixtures.meta(&format!("/{section}"))?;
    let size = Size::new(settings.width, settings.height)?;
    let mut rows =
        text::stored_prompt(pipeline, &file, settings.prompt.as_ref(), settings.max_sequence_length, ["prompt_embeds", "pooled"])?;

    let params = GenerateParams { steps: settings.steps, guidance: settings.guidance, ..GenerateParams::new("", size) };
    let conditioning = Conditioning { pooled: file.get("pooled")?.clone(), tokens: file.get("prompt_embeds")?.clone() };
    let mut generation = pipeline.start_from(params, conditioning, PackedLatents(file.get("latents_init")?.clone()))?;
    while !generation.is_finished() {
        generation.step(pipeline)?;
        let key = format!("latents_step_{}", generation.done());
        if let Some(reference) = file.get_if_any(&key) {
            rows.push(Row::compare(stage, key, &generation.latents().0, reference, Bar::SAMPLING.on(pipeline))?);
        }
    }
    let unpacked = generation.latents().unpack(size)?;
    let picture = decode(pipeline, &unpacked.0)?;
    for (key, ours) in [("latents_final", &generation.latents().0), ("latents_final_unpacked", &unpacked.0), ("image", &picture)] {
        if let Some(reference) = file.get_if_any(key) {
            rows.push(Row::compare(stage, key, ours, reference, Bar::SAMPLING.on(pipeline))?);
        }
    }
    rows.extend(png(pipeline, fixtures, stage, &generation.finish(pipeline)?)?);
    Ok(rows)
}

/// Normalised latents → [B, 3, H, W], about -1..=1
fn decode(pipeline: &Pipeline, latents: &Tensor) -> Result<Tensor> {
    let vae = &pipeline.vae;
    Ok(vae.decode_raw(&((latents / vae.scaling_factor)? + vae.shift_factor)?)?)
}

/// The first picture beside the PNG of the same name, if there is one.
fn png(pipeline: &Pipeline, fixtures: &Fixtures, stage: &str, pictures: &[image::RgbImage]) -> Result<Option<Row>> {
    let path = fixtures.folder.join(format!("{stage}.png"));
    let Some(ours) = pictures.first().filter(|_| path.is_file()) else { return Ok(None) };
    let reference = image::open(&path).map_err(|e| usage(format!("{}: not a whole PNG ({e})", path.display())))?.into_rgb8();
    let tensor = |picture: &image::RgbImage| -> Result<Tensor> {
        let shape = (picture.height() as usize, picture.width() as usize, 3);
        Ok(Tensor::from_slice(picture.as_raw(), shape, &Device::Cpu)?.to_dtype(DType::F32)?)
    };
    Ok(Some(Row::compare(stage, format!("{stage}.png"), &tensor(ours)?, &tensor(&reference)?, Bar::SAMPLING.on(pipeline))?))
}
