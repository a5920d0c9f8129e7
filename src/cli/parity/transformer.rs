//! One call of the transformer without adapters.

use super::{
    call::Call,
    check::{Bar, Row},
    fixtures::Fixtures,
    text,
};
use anyhow::Result;
use engine::{AdapterSet, Pipeline};

pub fn rows(pipeline: &Pipeline, fixtures: &Fixtures, stage: &str) -> Result<Vec<Row>> {
    let file = fixtures.file(stage)?;
    let prompts: Option<text::Prompts> = fixtures.meta_if_any(&format!("/transformer/{stage}/prompt"))?;
    let length = fixtures.meta_if_any(&format!("/transformer/{stage}/max_sequence_length"))?;
    let mut rows = text::stored_prompt(pipeline, &file, prompts.as_ref(), length, ["encoder_hidden_states", "pooled_projections"])?;
    let ours = Call::read(&file, "hidden_states")?.velocity(pipeline, &AdapterSet::base())?;
    rows.push(Row::compare(stage, "output", &ours, file.get("output")?, Bar::STAGE.on(pipeline))?);
    Ok(rows)
}
