//! One micro-batch: which pictures, how noisy, with which captions. Everything drawn from (seed, step, micro-step, row).

use crate::ahead::Moments;
use crate::buckets::Frame;
use crate::cache::Cache;
use crate::dataset::Item;
use crate::objective::{self, Example};
use crate::order::Order;
use crate::random::{self, Purpose};
use crate::{Dataset, Recipe, Result};
use candle_core::Tensor;
use engine::latents::{Latents, PackedLatents};
use engine::text_encoder::Conditioning;
use engine::transformer::Modulations;
use engine::{Pipeline, Size, device, transformer};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// The run's pictures in their frames, and the order they are seen in.
pub struct Batches {
    order: Order,
    /// For each item its frame, and its mirrored frame if the recipe flips.
    frames: Vec<Vec<Frame>>,
}

/// What the transformer is asked, and what it should have answered.
pub struct Batch {
    pub example: Example,
    conditioning: Conditioning,
    sigma: Vec<f64>,
    guidance: Vec<f64>,
    size: Size,
}

impl Batch {
    pub fn step(&self) -> transformer::Step<'_> {
        self.step_with(None)
    }

    /// With modulations that were made ahead.
    pub fn step_with<'a>(&'a self, modulations: Option<&'a Modulations>) -> transformer::Step<'a> {
        let Self { size, conditioning, sigma, guidance, .. } = self;
        transformer::Step { size: *size, conditioning, sigma, guidance, modulations }
    }
}

impl Batches {
    pub fn new(recipe: &Recipe, dataset: &Dataset) -> Self {
        let flips: &[bool] = if recipe.flip { &[false, true] } else { &[false] };
        let frame = |item: &Item, flipped| Frame::of(recipe, &item.sha256, (item.width, item.height), flipped);
        let frames: Vec<Vec<_>> = dataset.items.iter().map(|item| flips.iter().map(|&flipped| frame(item, flipped)).collect()).collect();
        let sizes: Vec<_> = frames.iter().map(|frames| frames[0].size).collect();
        Self { order: Order::new(recipe.seed, recipe.batch_size, &sizes), frames }
    }

    /// The frames of an item that the cache must hold.
    pub fn frames(&self, item: usize) -> &[Frame] {
        &self.frames[item]
    }

    /// The items of a micro-batch; `step` counts from 1, `micro` from 0.
    pub fn items(&self, recipe: &Recipe, step: usize, micro: usize) -> Vec<usize> {
        self.order.batch((step - 1) * recipe.accumulate + micro)
    }

    /// Draws a micro-batch out of the cache.
    pub fn draw(&self, pipeline: &Pipeline, recipe: &Recipe, dataset: &Dataset, cache: &Cache, step: usize, micro: usize) -> Result<Batch> {
        let items = self.items(recipe, step, micro);
        let size = self.frames[items[0]][0].size;
        let mu = pipeline.scheduler.mu(size);
        let mut rows = Rows::default();
        for (row, &index) in items.iter().enumerate() {
            let (draw, item) = (Draw { recipe, step, micro, row }, &dataset.items[index]);
            let frame = self.frames[index][draw.rng(Purpose::Flip).random_range(0..self.frames[index].len())];
            rows.conditioning.push(draw.conditioning(cache, item).clone());
            rows.latents.push(posterior_sample(cache, item, &frame, &mut draw.rng(Purpose::Posterior))?);
            rows.noise.push(normal_like(&rows.latents[row], &mut draw.rng(Purpose::Noise))?);
            rows.sigma.push(draw.sigma(mu));
        }
        rows.into_batch(pipeline, recipe, size)
    }

    /// What modulation is made from, of every row of some micro-batches, counted from the run's first as 0.
    pub fn moments(
        &self,
        pipeline: &Pipeline,
        recipe: &Recipe,
        dataset: &Dataset,
        cache: &Cache,
        micro_batches: Range<usize>,
    ) -> Result<Moments> {
        let (mut sigma, mut pooled) = (Vec::new(), Vec::new());
        for index in micro_batches {
            let (step, micro) = (index / recipe.accumulate + 1, index % recipe.accumulate);
            let items = self.items(recipe, step, micro);
            let mu = pipeline.scheduler.mu(self.frames[items[0]][0].size);
            for (row, item) in items.into_iter().enumerate() {
                let draw = Draw { recipe, step, micro, row };
                sigma.push(draw.sigma(mu));
                pooled.push(draw.conditioning(cache, &dataset.items[item]).pooled.clone());
            }
        }
        Ok(Moments { sigma, pooled: device::send(&Tensor::cat(&pooled, 0)?, &pipeline.device)? })
    }
}

/// What the seed decides for one row of a micro-batch.
struct Draw<'a> {
    recipe: &'a Recipe,
    step: usize,
    micro: usize,
    row: usize,
}

impl Draw<'_> {
    fn rng(&self, purpose: Purpose) -> ChaCha8Rng {
        random::keyed(self.recipe.seed, purpose, &[&self.step, &self.micro, &self.row])
    }

    /// The caption's, or that of no caption.
    fn conditioning<'c>(&self, cache: &'c Cache, item: &Item) -> &'c Conditioning {
        let dropped = self.rng(Purpose::CaptionDropout).random::<f64>() < self.recipe.caption_dropout;
        if dropped { cache.nothing() } else { cache.conditioning(item) }
    }

    fn sigma(&self, mu: f64) -> f64 {
        objective::sigma(self.recipe, mu, &mut self.rng(Purpose::Timestep))
    }
}

#[derive(Default)]
struct Rows {
    conditioning: Vec<Conditioning>,
    latents: Vec<Tensor>,
    noise: Vec<Tensor>,
    sigma: Vec<f64>,
}

impl Rows {
    /// From here on the batch is on the pipeline's device.
    fn into_batch(self, pipeline: &Pipeline, recipe: &Recipe, size: Size) -> Result<Batch> {
        let send = |tensor: &Tensor| device::send(tensor, &pipeline.device);
        let pictures = PackedLatents(send(&pipeline.vae.normalise(&Tensor::cat(&self.latents, 0)?)?.pack()?.0)?);
        let noise = PackedLatents(send(&Latents(Tensor::cat(&self.noise, 0)?).pack()?.0)?);
        let column = |of: fn(&Conditioning) -> &Tensor| send(&Tensor::cat(&self.conditioning.iter().map(of).collect::<Vec<_>>(), 0)?);
        Ok(Batch {
            example: Example::new(&pictures, &noise, &self.sigma, recipe.weighting)?,
            conditioning: Conditioning { pooled: column(|c| &c.pooled)?, tokens: column(|c| &c.tokens)? },
            guidance: vec![recipe.guidance; self.sigma.len()],
            sigma: self.sigma,
            size,
        })
    }
}

/// A draw from the VAE's distribution: mean + e^(logvar/2)·ε, with diffusers' bounds on logvar. [1, 16, H/8, W/8], not normalised.
fn posterior_sample(cache: &Cache, item: &Item, frame: &Frame, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    let posterior = cache.posterior(item, frame);
    let deviation = (posterior.logvar.clamp(-30f32, 20f32)? * 0.5)?.exp()?;
    Ok((&posterior.mean + (deviation * normal_like(&posterior.mean, rng)?)?)?)
}

fn normal_like(tensor: &Tensor, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    Ok(Tensor::from_vec(random::normal(rng, tensor.elem_count()), tensor.shape(), tensor.device())?)
}
