//! What a mode of the bench works on: the model, the sizes, and how often.

use super::{
    super::{
        arguments::ModelArguments,
        output::{say, say_json},
    },
    check_repeat,
    measured::{Measured, table},
};
use anyhow::{Result, ensure};
use clap::Args;
use engine::{
    Model, Pipeline, Size,
    device::{self, Mark},
    synthetic::Synthetic,
};
use std::process::ExitCode;

#[derive(Args, Debug)]
pub struct Subject {
    #[command(flatten)]
    model: ModelArguments,
    /// Random weights of a real model's shape in the place of --model: flux-dev is FLUX.1-dev at full size
    #[arg(long, value_name = "NAME")]
    synthetic: Option<Synthetic>,
    /// Sizes, one measurement each [default: the square that the model was made for]
    #[arg(long = "size", value_name = "WxH,…", value_delimiter = ',')]
    sizes: Vec<Size>,
    /// Tokens of the prompt, 1 to 512
    #[arg(long, default_value_t = 512, value_name = "N")]
    pub text_tokens: usize,
    /// Steps that are timed, after those that warm up
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub repeat: usize,
    /// Steps before the clock counts
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub warm_up: usize,
    /// Print the measurements as JSON
    #[arg(long)]
    pub json: bool,
}

impl Subject {
    /// Measures every size and prints the table, with what `remark` has to say of each below it, or JSON.
    pub fn report(
        &self,
        measure: impl Fn(&Pipeline, Size) -> Result<Measured>,
        remark: impl Fn(&Measured) -> Option<String>,
    ) -> Result<ExitCode> {
        let pipeline = self.load()?;
        let measured = self.sizes(&pipeline).into_iter().map(|size| measure(&pipeline, size)).collect::<Result<Vec<_>>>()?;
        if self.json {
            say_json(&measured)?;
            return Ok(ExitCode::SUCCESS);
        }
        say(format_args!("{} on {}", pipeline.name, device::in_words(&pipeline.device)))?;
        say(table(&measured))?;
        measured.iter().filter_map(remark).try_for_each(say)?;
        Ok(ExitCode::SUCCESS)
    }

    fn load(&self) -> Result<Pipeline> {
        check_repeat(self.repeat)?;
        match self.synthetic {
            Some(synthetic) => self.model.load_as(Model::Synthetic(synthetic)),
            None => self.model.load(),
        }
    }

    fn sizes(&self, pipeline: &Pipeline) -> Vec<Size> {
        if self.sizes.is_empty() { vec![pipeline.sizes.usual_size()] } else { self.sizes.clone() }
    }
}

/// Seconds of each step after the warm-up, between marks that lie behind every step's work.
pub fn seconds(marks: &[Mark], warm_up: usize) -> Result<Vec<f64>> {
    ensure!(marks.len() > warm_up + 1, "nothing was timed");
    marks[warm_up..].windows(2).map(|pair| Ok(pair[1].seconds_since(&pair[0])?)).collect()
}
