//! The shift by picture size, and the sigmas and timesteps that follow from it.

use super::{
    check::{Bar, Row},
    fixtures::Fixtures,
};
use anyhow::Result;
use engine::{Device, Pipeline, Size, Tensor};
use std::collections::BTreeMap;

pub fn rows(pipeline: &Pipeline, fixtures: &Fixtures, stage: &str) -> Result<Vec<Row>> {
    let file = fixtures.file(stage)?;
    let scheduler = &pipeline.scheduler;
    let mut rows = Vec::new();
    for (size, mu) in fixtures.meta_if_any::<BTreeMap<String, f64>>("/schedule_mu")?.unwrap_or_default() {
        let ours = scheduler.mu(size.parse()?);
        rows.push(Row::compare(stage, format!("mu {size}"), &vector(&[ours])?, &vector(&[mu])?, Bar::EXACT)?);
    }
    for (kind, scale) in [("sigmas", 1.0), ("timesteps", scheduler.num_train_timesteps as f64)] {
        for (rest, reference) in file.with_prefix(&format!("{kind}_")) {
            let (steps, size) = steps_and_size(rest).ok_or_else(|| file.fault(format_args!("{kind}_{rest}: not {kind}_STEPS_WxH")))?;
            let mut ours: Vec<f64> = scheduler.sigmas(steps, size).iter().map(|sigma| sigma * scale).collect();
            // Timesteps have no final 0.
            ours.truncate(reference.elem_count());
            rows.push(Row::compare(stage, format!("{kind}_{rest}"), &vector(&ours)?, reference, Bar::EXACT)?);
        }
    }
    Ok(rows)
}

fn steps_and_size(text: &str) -> Option<(usize, Size)> {
    let (steps, size) = text.split_once('_')?;
    Some((steps.parse().ok()?, size.parse().ok()?))
}

fn vector(values: &[f64]) -> Result<Tensor> {
    Ok(Tensor::new(values, &Device::Cpu)?)
}
