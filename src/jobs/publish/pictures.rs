//! Pictures that may go along: pairs of base and adapter from comparisons, and samples of the training.

use crate::store::{BlobKey, Owner, Result, Store};
use app::api::{AdapterInfo, Comparison, PictureChoice, PictureId, RunId, Sample};
use bytes::Bytes;

/// As the page shows it, and where its bytes are.
pub struct Choice {
    pub shown: PictureChoice,
    adapter: Source,
    base: Option<Source>,
}

enum Source {
    Picture(PictureId),
    Sample(RunId, String),
}

/// Newest comparisons first, then the samples of the last checkpoint.
pub async fn choices(store: &Store, owner: &Owner, adapter: &AdapterInfo) -> Result<Vec<Choice>> {
    const COMPARISONS: usize = 200;
    let comparisons = store.comparisons(owner, COMPARISONS).await?;
    let mut choices: Vec<Choice> =
        comparisons.iter().filter(|comparison| comparison.request.adapter == adapter.id).flat_map(pairs).collect();
    if let Some(run) = &adapter.run {
        choices.extend(samples(run, store.samples(run).await?));
    }
    Ok(choices)
}

/// Every seed's pictures beside the base's.
fn pairs(comparison: &Comparison) -> Vec<Choice> {
    let base =
        |seed: u64| comparison.cells.iter().find(|cell| cell.seed == seed && cell.scale == 0.0).and_then(|cell| cell.picture.clone());
    let drawn = comparison.cells.iter().filter(|cell| cell.scale != 0.0);
    drawn
        .filter_map(|cell| {
            let (picture, base) = (cell.picture.clone()?, base(cell.seed)?);
            let url = |id: &PictureId| format!("/files/pictures/{id}.png");
            let shown = PictureChoice {
                id: format!("picture-{picture}"),
                prompt: comparison.request.prompt.clone(),
                note: format!("seed {}, strength {}", cell.seed, cell.scale),
                url: url(&picture),
                base_url: Some(url(&base)),
            };
            Some(Choice { shown, adapter: Source::Picture(picture), base: Some(Source::Picture(base)) })
        })
        .collect()
}

/// Step 0 is the base model: the adapter does nothing yet.
fn samples(run: &RunId, samples: Vec<Sample>) -> Vec<Choice> {
    let last = samples.iter().map(|sample| sample.step).max().filter(|step| *step > 0);
    let choice = |sample: &Sample| {
        let base = samples.iter().find(|before| before.step == 0 && before.prompt == sample.prompt);
        let shown = PictureChoice {
            id: format!("sample-{}", file(sample)),
            prompt: sample.prompt.clone(),
            note: format!("sample at step {}", sample.step),
            url: sample.url.clone(),
            base_url: base.map(|base| base.url.clone()),
        };
        let source = |sample: &Sample| Source::Sample(run.clone(), file(sample).to_owned());
        Choice { shown, adapter: source(sample), base: base.map(source) }
    };
    samples.iter().filter(|sample| Some(sample.step) == last).map(choice).collect()
}

fn file(sample: &Sample) -> &str {
    sample.url.rsplit('/').next().unwrap_or_default()
}

impl Choice {
    /// The adapter's picture and the base's.
    pub async fn bytes(&self, store: &Store, owner: &Owner) -> Result<(Bytes, Option<Bytes>)> {
        let base = match &self.base {
            Some(base) => Some(base.bytes(store, owner).await?),
            None => None,
        };
        Ok((self.adapter.bytes(store, owner).await?, base))
    }
}

impl Source {
    async fn bytes(&self, store: &Store, owner: &Owner) -> Result<Bytes> {
        Ok(match self {
            Self::Picture(id) => store.blobs.get(&BlobKey::picture(id)).await?.into(),
            Self::Sample(run, name) => tokio::fs::read(store.sample_file(owner, run, name).await?).await?.into(),
        })
    }
}
