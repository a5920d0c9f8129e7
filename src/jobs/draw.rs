//! Generations and comparisons: pictures planned in a row, drawn one step at a time, stored as each is finished.

use super::{
    device::{Ended, Task},
    progress::Reporter,
    resident::Resident,
    stop::{Stop, StopSignal},
    worker::Worker,
};
use crate::store::{Claimed, adapters::AdapterFile, new_id, now, thumbnail};
use anyhow::Result;
use app::api::{AdapterUse, CompareRequest, Event, GenerateRequest, Picture, RunKind};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use engine::{GenerateParams, Generation, Size};
use image::RgbImage;
use std::{collections::VecDeque, ops::ControlFlow, sync::Arc, time::Instant};
use tokio::sync::mpsc;

/// A picture that is to be: all but its pixels.
#[derive(Clone, Debug)]
pub struct Planned {
    pub picture: Picture,
    /// Its cell in a comparison.
    pub cell: Option<usize>,
}

/// What [`CompareRequest`] becomes when it is stored: the seed is drawn, the name known.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct CompareJob {
    pub request: CompareRequest,
    pub adapter_name: String,
    pub seed: u64,
}

impl CompareJob {
    /// (seed, scale) of each cell, the base first in each row.
    pub fn cells(&self) -> Vec<(u64, f64)> {
        let scales = || std::iter::once(0.0).chain(self.request.scales.iter().copied());
        (0..u64::from(self.request.count)).flat_map(|i| scales().map(move |scale| (self.seed + i, scale))).collect()
    }
}

/// Draws what the run asks for and is not drawn yet: after an interruption only the rest is left.
pub async fn run(worker: &Worker, claimed: &Claimed, reporter: &mut Reporter) -> Result<Ended> {
    let model = worker.device.facts().await?.model.clone();
    let plan = match claimed.run.kind {
        RunKind::Compare => plan_comparison(claimed, &model)?,
        _ => plan_generation(claimed, &model)?,
    };
    let total = plan.iter().map(|planned| planned.picture.steps).sum();
    let finished = worker.store.pictures_of(&claimed.claim).await?;
    let is_left = |planned: &Planned| !finished.iter().any(|picture| is_same(picture, &planned.picture));
    let left: Vec<Planned> = plan.into_iter().filter(is_left).collect();
    let before = total - left.iter().map(|planned| planned.picture.steps).sum::<u32>();
    reporter.progress("drawing", before, total).await?;
    Draw { worker, claimed, before, total }.all(left, reporter).await
}

fn is_same(a: &Picture, b: &Picture) -> bool {
    a.seed == b.seed && a.adapters.iter().map(|used| used.scale).eq(b.adapters.iter().map(|used| used.scale))
}

fn plan_generation(claimed: &Claimed, model: &str) -> Result<Vec<Planned>> {
    let request: GenerateRequest = claimed.request()?;
    let first = request.seed.unwrap_or_default();
    let planned = |i| Planned { picture: picture(claimed, &request, model, first + u64::from(i)), cell: None };
    Ok((0..request.count).map(planned).collect())
}

fn plan_comparison(claimed: &Claimed, model: &str) -> Result<Vec<Planned>> {
    let job: CompareJob = claimed.request()?;
    let CompareRequest { prompt, adapter, width, height, steps, guidance, .. } = job.request.clone();
    let base = GenerateRequest { prompt, width, height, steps, guidance, seed: None, count: 1, adapters: Vec::new() };
    let planned = |(cell, (seed, scale)): (usize, (u64, f64))| {
        let used = AdapterUse { id: adapter.clone(), name: job.adapter_name.clone(), scale };
        let request = GenerateRequest { adapters: if scale == 0.0 { Vec::new() } else { vec![used] }, ..base.clone() };
        Planned { picture: picture(claimed, &request, model, seed), cell: Some(cell) }
    };
    Ok(job.cells().into_iter().enumerate().map(planned).collect())
}

fn picture(claimed: &Claimed, request: &GenerateRequest, model: &str, seed: u64) -> Picture {
    let GenerateRequest { prompt, width, height, steps, guidance, adapters, .. } = request.clone();
    let (id, run, model) = (new_id(), claimed.claim.run.clone(), model.to_owned());
    Picture { id, run, prompt, width, height, steps, guidance, seed, adapters, model, seconds: 0.0, created_at: 0 }
}

struct Draw<'a> {
    worker: &'a Worker,
    claimed: &'a Claimed,
    /// Steps of pictures that an earlier attempt finished.
    before: u32,
    total: u32,
}

impl Draw<'_> {
    async fn all(&self, plan: Vec<Planned>, reporter: &mut Reporter) -> Result<Ended> {
        let mut drawings = VecDeque::with_capacity(plan.len());
        for planned in &plan {
            drawings.push_back(self.drawing(&planned.picture).await?);
        }
        // Unbounded: a report is a few KB, and the device must never wait for a disk.
        let (reports, heard) = mpsc::unbounded_channel();
        let stop = self.worker.hub.signal(&self.claimed.claim.run);
        let task = DrawTask { drawings, index: 0, current: None, reports, stop };
        let listen = async {
            // Moved in here: when storing fails, the device hears that nobody listens.
            let mut heard = heard;
            while let Some(report) = heard.recv().await {
                self.hear(report, &plan, reporter).await?;
            }
            Ok(())
        };
        let (ended, listened) = tokio::join!(self.worker.device.run(task), listen);
        listened.and(ended)
    }

    async fn drawing(&self, picture: &Picture) -> Result<Drawing> {
        let mut adapters = Vec::with_capacity(picture.adapters.len());
        for used in &picture.adapters {
            adapters.push((self.worker.store.adapter_file(&self.claimed.owner, &used.id).await?, used.scale));
        }
        let size = Size::new(picture.width as usize, picture.height as usize)?;
        let params = GenerateParams {
            steps: picture.steps as usize,
            guidance: picture.guidance,
            seed: picture.seed,
            ..GenerateParams::new(picture.prompt.clone(), size)
        };
        Ok(Drawing { params, adapters })
    }

    async fn hear(&self, report: Report, plan: &[Planned], reporter: &mut Reporter) -> Result<()> {
        match report {
            Report::Step { index, step, preview } => {
                let picture = &plan[index].picture;
                if let Some(preview) = preview {
                    let data_url = data_url(&preview)?;
                    reporter.send(Event::Preview { index: self.place(&plan[index], index), data_url, step, steps: picture.steps });
                }
                let done = self.before + plan[..index].iter().map(|planned| planned.picture.steps).sum::<u32>() + step;
                reporter.progress("drawing", done, self.total).await?;
            }
            Report::Picture { index, pixels, seconds } => {
                let picture = Picture { seconds, created_at: now(), ..plan[index].picture.clone() };
                let store = &self.worker.store;
                store.add_picture(&self.claimed.claim, &self.claimed.owner, &picture, pixels).await?;
                if let Some(cell) = plan[index].cell {
                    store.fill_cell(&self.claimed.claim, cell, &picture.id).await?;
                }
                reporter.send(Event::Picture { picture: Box::new(picture) });
            }
        }
        Ok(())
    }

    /// The picture's index within what was asked for, whatever was drawn before.
    fn place(&self, planned: &Planned, index: usize) -> u32 {
        planned.cell.unwrap_or(index + (self.before / planned.picture.steps.max(1)) as usize) as u32
    }
}

/// One picture as the device draws it.
struct Drawing {
    params: GenerateParams,
    adapters: Vec<(AdapterFile, f64)>,
}

enum Report {
    Step { index: usize, step: u32, preview: Option<RgbImage> },
    Picture { index: usize, pixels: RgbImage, seconds: f64 },
}

struct DrawTask {
    drawings: VecDeque<Drawing>,
    /// Of the picture in the making.
    index: usize,
    current: Option<(Generation, Instant)>,
    reports: mpsc::UnboundedSender<Report>,
    stop: Arc<StopSignal>,
}

impl Task for DrawTask {
    fn advance(&mut self, resident: &mut Resident) -> Result<ControlFlow<Ended>> {
        match self.stop.get() {
            Some(Stop::Asked) => return Ok(ControlFlow::Break(Ended::Stopped)),
            Some(Stop::Leaving) => return Ok(ControlFlow::Break(Ended::Interrupted)),
            None => {}
        }
        match self.current.take() {
            Some((generation, started)) if generation.is_finished() => self.finish(generation, started, resident),
            Some((generation, started)) => self.step(generation, started, resident),
            None => self.begin(resident),
        }
    }
}

impl DrawTask {
    fn begin(&mut self, resident: &mut Resident) -> Result<ControlFlow<Ended>> {
        let Some(Drawing { mut params, adapters }) = self.drawings.pop_front() else {
            return Ok(ControlFlow::Break(Ended::Finished));
        };
        let started = Instant::now();
        for (file, scale) in &adapters {
            params.adapters.push((resident.adapter(file)?, *scale));
        }
        self.current = Some((resident.pipeline.start(params)?, started));
        self.report(Report::Step { index: self.index, step: 0, preview: None })
    }

    fn step(&mut self, mut generation: Generation, started: Instant, resident: &mut Resident) -> Result<ControlFlow<Ended>> {
        generation.step(&resident.pipeline)?;
        let preview = generation.preview(&resident.pipeline)?.into_iter().next();
        let step = generation.done() as u32;
        self.current = Some((generation, started));
        self.report(Report::Step { index: self.index, step, preview })
    }

    fn finish(&mut self, generation: Generation, started: Instant, resident: &mut Resident) -> Result<ControlFlow<Ended>> {
        for pixels in generation.finish(&resident.pipeline)? {
            let report = Report::Picture { index: self.index, pixels, seconds: started.elapsed().as_secs_f64() };
            if let ended @ ControlFlow::Break(_) = self.report(report)? {
                return Ok(ended);
            }
        }
        self.index += 1;
        Ok(ControlFlow::Continue(()))
    }

    /// Nobody listens any more when storing the picture before failed: then there is no use in the next.
    fn report(&self, report: Report) -> Result<ControlFlow<Ended>> {
        Ok(match self.reports.send(report) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(Ended::Stopped),
        })
    }
}

fn data_url(preview: &RgbImage) -> Result<String> {
    Ok(format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(thumbnail::jpeg(preview, 80)?)))
}
