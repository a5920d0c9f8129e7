//! Prompts → token ids, CLIP's states, T5's states.

use super::{
    check::{Bar, Row},
    fixtures::{File, Fixtures},
};
use anyhow::Result;
use engine::{DType, Pipeline, Tensor};

pub fn rows(pipeline: &Pipeline, fixtures: &Fixtures, stage: &str) -> Result<Vec<Row>> {
    let file = fixtures.file(stage)?;
    let prompts: Vec<String> = fixtures.meta("/prompts")?;
    let prompts: Vec<&str> = prompts.iter().map(String::as_str).collect();
    let encoder = &pipeline.text_encoder;
    let mut rows = Vec::new();
    if let Some(ids) = file.get_if_any("clip_ids") {
        rows.push(Row::verdict(stage, "clip_ids", same_ids(&encoder.clip_ids(&prompts)?, &ids_of(&file, "clip_ids", ids)?)));
    }
    for (length, ids) in file.numbered("t5_ids_") {
        let key = format!("t5_ids_{length}");
        rows.push(Row::verdict(stage, &key, same_ids(&encoder.t5_ids(&prompts, length)?, &ids_of(&file, &key, ids)?)));
    }
    let clip = encoder.clip_output(&prompts)?;
    for (key, ours) in [("clip_pooled", &clip.pooled), ("clip_last_hidden", &clip.last_hidden)] {
        if let Some(reference) = file.get_if_any(key) {
            rows.push(Row::compare(stage, key, ours, reference, Bar::STAGE.on(pipeline))?);
        }
    }
    for (length, reference) in file.numbered("t5_hidden_") {
        let ours = encoder.t5_hidden(&prompts, length)?;
        rows.push(Row::compare(stage, format!("t5_hidden_{length}"), &ours, reference, Bar::STAGE.on(pipeline))?);
    }
    Ok(rows)
}

/// The encoders' answer to a prompt that another stage stored: `tokens` and `pooled` are keys of its file.
pub fn stored_prompt(
    pipeline: &Pipeline,
    file: &File,
    prompts: Option<&Prompts>,
    length: Option<usize>,
    [tokens, pooled]: [&str; 2],
) -> Result<Vec<Row>> {
    let Some(prompts) = prompts else { return Ok(Vec::new()) };
    let prompts: Vec<&str> = prompts.0.iter().map(String::as_str).collect();
    let length = length.map_or_else(|| file.get(tokens)?.dim(1).map_err(Into::into), Ok::<_, anyhow::Error>)?;
    let ours = pipeline.text_encoder.encode(&prompts, length)?;
    let rows = [(tokens, &ours.tokens), (pooled, &ours.pooled)];
    rows.into_iter().map(|(key, ours)| Row::compare(&file.stage, key, ours, file.get(key)?, Bar::STAGE.on(pipeline))).collect()
}

/// One prompt, or one for each picture.
pub struct Prompts(Vec<String>);

impl<'de> serde::Deserialize<'de> for Prompts {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Either {
            One(String),
            Many(Vec<String>),
        }
        Ok(Self(match Either::deserialize(deserializer)? {
            Either::One(prompt) => vec![prompt],
            Either::Many(prompts) => prompts,
        }))
    }
}

fn ids_of(file: &File, key: &str, ids: &Tensor) -> Result<Vec<Vec<i64>>> {
    ids.to_dtype(DType::I64).and_then(|ids| ids.to_vec2()).map_err(|_| file.fault(format_args!("{key} must have one row of ids a prompt")))
}

fn same_ids(ours: &[Vec<u32>], reference: &[Vec<i64>]) -> Result<(), String> {
    if ours.len() != reference.len() {
        return Err(format!("{} prompts, but ids of {}", ours.len(), reference.len()));
    }
    for (prompt, (ours, reference)) in ours.iter().zip(reference).enumerate() {
        if ours.len() != reference.len() {
            return Err(format!("prompt {prompt}: {} ids instead of {}", ours.len(), reference.len()));
        }
        if let Some(at) = (0..ours.len()).find(|&at| i64::from(ours[at]) != reference[at]) {
            return Err(format!("prompt {prompt}, token {at}: {} instead of {}", ours[at], reference[at]));
        }
    }
    Ok(())
}
