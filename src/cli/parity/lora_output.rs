//! A trained adapter from a diffusers file, mounted at several strengths.

use super::super::fault::usage;
use super::{
    call::Call,
    check::{Bar, Row, norm},
    fixtures::Fixtures,
};
use anyhow::Result;
use engine::{Adapter, AdapterSet, Pipeline};
use std::sync::Arc;

pub fn rows(pipeline: &Pipeline, fixtures: &Fixtures, stage: &str) -> Result<Vec<Row>> {
    let file = fixtures.file(stage)?;
    let call = Call::read(&file, "hidden_states")?;
    let name: String = fixtures.meta("/lora/file")?;
    let path = fixtures.folder.join(&name);
    if !path.is_file() {
        return Err(usage(format!("{}: missing, though meta.json describes it", path.display())));
    }
    let adapter = Arc::new(Adapter::load(&path, &pipeline.device)?);
    let base = call.velocity(pipeline, &AdapterSet::base())?;
    let mut rows = Vec::new();
    if let Some(reference) = file.get_if_any("output_base") {
        rows.push(Row::compare(stage, "output_base", &base, reference, Bar::STAGE.on(pipeline))?);
    }
    for (strength, reference) in file.with_prefix("output_scale_") {
        let scale: f64 = strength.parse().map_err(|_| file.fault(format_args!("output_scale_{strength}: not a number")))?;
        let (mounted, coverage) = AdapterSet::mount(&pipeline.transformer, &[(adapter.clone(), scale)])?;
        if let Some((key, reason)) = coverage.iter().flat_map(|coverage| &coverage.unmatched).next() {
            rows.push(Row::verdict(stage, format!("{name} fits"), Err(format!("{key}: {reason}"))));
        }
        let ours = call.velocity(pipeline, &mounted)?;
        rows.push(Row::compare(stage, format!("output_scale_{strength}"), &ours, reference, Bar::STAGE.on(pipeline))?);
        // What the adapter changes, seen alone: a weak adapter at a wrong strength would hide in the output.
        let Some(reference_base) = file.get_if_any("output_base") else { continue };
        let change = (reference - reference_base)?;
        if norm(&change)? > 1e-2 * norm(reference_base)? {
            rows.push(Row::compare(stage, format!("change at {strength}"), &(&ours - &base)?, &change, Bar::SAMPLING.on(pipeline))?);
        }
    }
    Ok(rows)
}
