//! `atelier generate`: pictures from a prompt, one after another, each written as soon as it is done.

use super::{
    adapters::{self, Loaded, Used, Wanted},
    arguments::{self, ModelArguments, PictureArguments},
    fault::STOPPED,
    output::{self, Target},
    progress,
    recipe::PictureRecipe,
    stop,
};
use crate::store::png;
use anyhow::Result;
use clap::Args;
use engine::{GenerateParams, Pipeline};
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

const EXAMPLES: &str = "Examples:
  atelier generate --prompt \"a lighthouse on a cliff\" --out lighthouse.png
  atelier generate --prompt \"a lake at dusk, impressionist painting\" \\
      --adapter out/impressionist --count 4 --seed 7 --out pictures/
  atelier generate --prompt \"a dancer\" --width 192 --height 288 --adapter mucha.safetensors:0.8 --out dancer.png

The same command makes the same picture. Each PNG holds its whole recipe: text chunk `parameters` for people, `atelier` as JSON.";

/// Make pictures from a prompt
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct Arguments {
    /// What to paint
    #[arg(long, short, value_name = "P")]
    prompt: String,
    /// PNG file, or a folder that gets one file a picture
    #[arg(long, short, value_name = "FILE|DIR")]
    out: PathBuf,
    /// Adapter file or the folder of a training, with its strength [default strength: 1]; may be given again
    #[arg(long = "adapter", value_name = "FILE[:SCALE]")]
    adapters: Vec<Wanted>,
    #[command(flatten)]
    picture: PictureArguments,
    /// Which of all possible pictures
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// How many pictures; they take seed, seed + 1, …
    #[arg(long, default_value_t = 1, value_name = "N")]
    count: usize,
    #[command(flatten)]
    model: ModelArguments,
    /// Print what was made as JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Made {
    pictures: Vec<Picture>,
    stopped: bool,
    load_s: f64,
    seconds: f64,
}

#[derive(Serialize)]
struct Picture {
    file: PathBuf,
    seconds: f64,
    #[serde(flatten)]
    recipe: PictureRecipe,
}

pub fn run(arguments: &Arguments, started: Instant) -> Result<ExitCode> {
    let seeds = arguments::seeds(arguments.seed, arguments.count)?;
    let params = arguments.picture.params(&arguments.prompt, arguments.seed)?;
    let target = Target::new(&arguments.out)?;
    let pipeline = arguments.model.load()?;
    let adapters = adapters::load(&arguments.adapters, &pipeline)?;
    let load_s = started.elapsed().as_secs_f64();
    stop::listen();

    let mut made = Made { pictures: Vec::new(), stopped: false, load_s, seconds: 0.0 };
    for (index, &seed) in seeds.iter().enumerate() {
        let params = GenerateParams { seed, adapters: adapters::mounted(&adapters), ..params.clone() };
        let what = if seeds.len() == 1 { "painting".into() } else { format!("picture {} of {}", index + 1, seeds.len()) };
        let file = target.path(index, seeds.len(), &params.prompt, seed);
        match paint(&pipeline, &params, &adapters, &what, &file) {
            Err(error) if stop::asked() && is_stop(&error) => made.stopped = true,
            picture => made.pictures.push(picture?),
        }
        if !arguments.json
            && let Some(picture) = made.pictures.get(index)
        {
            output::say(format_args!("{}  ({:.1} s, seed {seed})", picture.file.display(), picture.seconds))?;
        }
        made.stopped |= stop::asked() && index + 1 < seeds.len();
        if made.stopped {
            break;
        }
    }
    made.seconds = started.elapsed().as_secs_f64();
    finish(arguments, &made)
}

fn finish(arguments: &Arguments, made: &Made) -> Result<ExitCode> {
    if arguments.json {
        output::say_json(made)?;
    }
    if !made.stopped {
        return Ok(ExitCode::SUCCESS);
    }
    output::note(format_args!("stopped; {} of {} pictures are done and kept", made.pictures.len(), arguments.count));
    Ok(STOPPED.into())
}

/// One picture from noise to file.
fn paint(pipeline: &Pipeline, params: &GenerateParams, adapters: &[Loaded], what: &str, file: &Path) -> Result<Picture> {
    let begun = Instant::now();
    let picture = one(pipeline, params, what)?;
    let used: Vec<Used> = adapters.iter().map(|one| one.used.clone()).collect();
    let recipe = PictureRecipe::new(params, &pipeline.name, &used);
    output::write(file, &png::encode(&picture, &serde_json::to_value(&recipe)?)?)?;
    Ok(Picture { file: file.to_owned(), seconds: begun.elapsed().as_secs_f64(), recipe })
}

/// One picture with its progress bar; Ctrl-C ends it at the next step as [`engine::Error::Cancelled`].
pub fn one(pipeline: &Pipeline, params: &GenerateParams, what: &str) -> Result<image::RgbImage> {
    let bar = progress::bar(params.steps as u64, what);
    let pictures = pipeline.generate(params.clone(), &mut |generation| {
        bar.set_position(generation.done() as u64);
        stop::or_go_on()
    });
    bar.finish_and_clear();
    Ok(pictures?.swap_remove(0))
}

pub fn is_stop(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(engine::Error::Cancelled))
}
