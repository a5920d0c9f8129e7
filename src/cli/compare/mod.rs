//! `atelier compare`: one labelled picture of base and adapters, on the same prompts and seeds.

mod grid;
mod lettering;

use super::{
    adapters::{self, Used, Wanted},
    arguments::{self, ModelArguments, PictureArguments},
    fault::{STOPPED, usage},
    generate,
    output::{self, Target},
    stop,
};
use crate::store::png;
use anyhow::{Context, Result};
use clap::Args;
use engine::{GenerateParams, Pipeline};
use grid::{Grid, Row};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

const EXAMPLES: &str = "Examples:
  atelier compare --prompt \"a lake with mountains, impressionist painting\" --count 2 \\
      --adapter out/impressionist --out compare.png
  atelier compare --prompts public/style-sets/holdout-prompts.txt --ending \", art nouveau panel\" \\
      --adapter mucha.safetensors:0.6 --adapter mucha.safetensors:1.0 --width 192 --height 288 --out mucha.png

Rows are prompts × seeds; columns are the base model and then each adapter alone, at its strength.";

/// Compare base and adapters in one labelled grid
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct Arguments {
    /// What to paint; may be given again
    #[arg(long = "prompt", short, value_name = "P", required_unless_present = "prompts")]
    prompt: Vec<String>,
    /// Text file with one prompt a line
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Added to every prompt, such as the trigger phrase of a style
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    ending: String,
    /// Adapter file or the folder of a training, with its strength; one column each
    #[arg(long = "adapter", value_name = "FILE[:SCALE]", required = true)]
    adapters: Vec<Wanted>,
    #[command(flatten)]
    picture: PictureArguments,
    /// First seed
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// How many seeds a prompt: seed, seed + 1, …
    #[arg(long, default_value_t = 1, value_name = "N")]
    count: usize,
    /// PNG file, or a folder
    #[arg(long, short, value_name = "FILE|DIR")]
    out: PathBuf,
    #[command(flatten)]
    model: ModelArguments,
    /// Print what was made as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, started: Instant) -> Result<ExitCode> {
    let rows = rows(arguments)?;
    let target = Target::new(&arguments.out)?;
    let pipeline = arguments.model.load()?;
    let adapters = adapters::load(&arguments.adapters, &pipeline)?;
    stop::listen();

    let columns: Vec<_> = std::iter::once(vec![]).chain(adapters.iter().map(|one| adapters::mounted(std::slice::from_ref(one)))).collect();
    let used: Vec<Used> = adapters.into_iter().map(|one| one.used).collect();
    let cells = rows.len() * columns.len();
    let mut grid = Grid {
        columns: std::iter::once("base".into()).chain(used.iter().map(|used| format!("{} × {}", used.name, used.scale))).collect(),
        rows: Vec::new(),
        cell: (rows[0].size.width() as u32, rows[0].size.height() as u32),
    };
    for params in &rows {
        let mut row = Row { prompt: params.prompt.clone(), seed: params.seed, pictures: Vec::new() };
        for adapters in &columns {
            let what = format!("picture {} of {cells}", grid.rows.len() * columns.len() + row.pictures.len() + 1);
            row.pictures.push(cell(&pipeline, GenerateParams { adapters: adapters.clone(), ..params.clone() }, &what)?);
        }
        grid.rows.push(row);
    }
    let seeds = (arguments.seed, arguments.count);
    let file = target.path(0, 1, "compare", arguments.seed);
    let recipe = serde_json::json!({
        "comparison": { "prompts": prompts(arguments)?, "first_seed": seeds.0, "seeds": seeds.1, "columns": grid.columns },
        "model": pipeline.name, "width": grid.cell.0, "height": grid.cell.1, "steps": rows[0].steps, "guidance": rows[0].guidance,
        "max_sequence_length": rows[0].max_sequence_length, "adapters": used, "software": concat!("Atelier ", env!("CARGO_PKG_VERSION")),
    });
    output::write(&file, &png::encode(&grid.draw()?, &recipe)?)?;
    finish(arguments, &file, &grid, started)
}

fn finish(arguments: &Arguments, file: &Path, grid: &Grid, started: Instant) -> Result<ExitCode> {
    let done = grid.rows.iter().flat_map(|row| &row.pictures).flatten().count();
    let stopped = done < grid.rows.len() * grid.columns.len();
    let seconds = started.elapsed().as_secs_f64();
    if arguments.json {
        let rows: Vec<_> = grid.rows.iter().map(|row| serde_json::json!({ "prompt": row.prompt, "seed": row.seed })).collect();
        output::say_json(&serde_json::json!({
            "file": file, "columns": grid.columns, "rows": rows, "pictures": done, "stopped": stopped, "seconds": seconds,
        }))?;
    } else {
        output::say(format_args!("{}  ({done} pictures, {seconds:.1} s)", file.display()))?;
    }
    if stopped {
        output::note("stopped; the grid holds the pictures that were done");
        return Ok(STOPPED.into());
    }
    Ok(ExitCode::SUCCESS)
}

/// A picture, or `None` once Ctrl-C was pressed.
fn cell(pipeline: &Pipeline, params: GenerateParams, what: &str) -> Result<Option<image::RgbImage>> {
    if stop::asked() {
        return Ok(None);
    }
    match generate::one(pipeline, &params, what) {
        Err(error) if generate::is_stop(&error) => Ok(None),
        picture => picture.map(Some),
    }
}

/// Prompts × seeds, checked.
fn rows(arguments: &Arguments) -> Result<Vec<GenerateParams>> {
    const MOST: usize = 200;
    let seeds = arguments::seeds(arguments.seed, arguments.count)?;
    let prompts = prompts(arguments)?;
    let rows = prompts.len() * seeds.len();
    if !(1..=MOST).contains(&rows) {
        return Err(usage(format!("{} prompts × {} seeds make {rows} rows; 1 to {MOST} are allowed", prompts.len(), seeds.len())));
    }
    let pairs = prompts.iter().flat_map(|prompt| seeds.iter().map(move |&seed| (prompt, seed)));
    pairs.map(|(prompt, seed)| arguments.picture.params(prompt, seed)).collect()
}

fn prompts(arguments: &Arguments) -> Result<Vec<String>> {
    let mut prompts = arguments.prompt.clone();
    if let Some(path) = &arguments.prompts {
        let text = std::fs::read_to_string(path).with_context(|| format!("--prompts {} cannot be read", path.display()))?;
        prompts.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
    }
    Ok(prompts.into_iter().map(|prompt| prompt + &arguments.ending).collect())
}
