//! Loss and gradients of the tensors inside an adapter, with or without keeping what every block computed on the way.

use super::{Embedded, Positions, Step, Transformer, join};
use crate::{AdapterSet, Result, cores::on_the_cores, latents::PackedLatents, linear::LinearId};
use candle_core::{Tensor, Var, backprop::GradStore};
use std::ops::Range;

/// What backward keeps: everything, or block inputs only (each block is run again).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Checkpointing {
    #[default]
    None,
    Smart,
    Full,
}

/// A differentiable scalar of the prediction.
pub type Loss<'a> = dyn Fn(&Tensor) -> Result<Tensor> + Sync + 'a;

/// Gradients of variables, one after the other in a flat buffer.
pub struct Gradients {
    flat: Tensor,
    variables: Vec<Var>,
}

impl Gradients {
    pub fn zeros(variables: &[Var], device: &candle_core::Device) -> Result<Self> {
        let elements = variables.iter().map(|variable| variable.elem_count()).sum::<usize>();
        Ok(Self { flat: Tensor::zeros(elements, candle_core::DType::F32, device)?, variables: variables.to_vec() })
    }

    /// All of them in the order of the variables, [n] f32.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// Back to zero.
    pub fn clear(&self) -> Result<()> {
        Ok(self.flat.zero_set()?)
    }
}

impl Transformer {
    /// The same as [`Self::gradients`], adding to `gradients`. Returns the loss.
    pub fn add_gradients(
        &self,
        latents: &PackedLatents,
        step: &Step,
        adapters: &AdapterSet,
        gradients: &Gradients,
        checkpointing: Checkpointing,
        loss: &Loss,
    ) -> Result<Tensor> {
        let (loss, new) = self.gradients(latents, step, adapters, &gradients.variables, checkpointing, loss)?;
        let new = new.iter().map(Tensor::flatten_all).collect::<candle_core::Result<Vec<_>>>()?;
        gradients.flat.slice_set(&(&gradients.flat + Tensor::cat(&new, 0)?)?, 0, 0)?;
        Ok(loss)
    }

    /// Loss and gradients of the trainable tensors `variables` (the `Var`s inside `adapters`, in the order given) for
    /// a loss of the prediction. With `Checkpointing::Full` each block is
    /// re-run in backward. Returns (loss, one gradient per variable: zeros where nothing flowed).
    pub fn gradients(
        &self,
        latents: &PackedLatents,
        step: &Step,
        adapters: &AdapterSet,
        variables: &[Var],
        checkpointing: Checkpointing,
        loss: &Loss,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        on_the_cores(|| self.gradients_here(latents, step, adapters, variables, checkpointing, loss))
    }

    fn gradients_here(
        &self,
        latents: &PackedLatents,
        step: &Step,
        adapters: &AdapterSet,
        variables: &[Var],
        checkpointing: Checkpointing,
        loss: &Loss,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let mut sums = Sums { variables, gradients: vec![None; variables.len()] };
        let value = match checkpointing {
            Checkpointing::None => {
                let value = loss(&self.forward(latents, step, adapters)?)?;
                sums.collect(&value.backward()?)?;
                value
            }
            Checkpointing::Smart | Checkpointing::Full => self.checkpointed(latents, step, adapters, &mut sums, loss)?,
        };
        Ok((value.to_dtype(candle_core::DType::F32)?, sums.finish()?))
    }

    /// Forward without a graph, keeping what enters each segment; then from the last segment to the first trainable one,
    /// run again with a graph and push the gradient of what left it through.
    fn checkpointed(&self, latents: &PackedLatents, step: &Step, adapters: &AdapterSet, sums: &mut Sums, loss: &Loss) -> Result<Tensor> {
        let positions = self.positions(step)?;
        let segments = self.segments(&positions);
        let frozen = adapters.detached();
        let Embedded { picture, text, vector } = self.embed(latents, step, &frozen)?;

        let mut entering = vec![vec![picture, text]];
        for segment in &segments[..segments.len() - 1] {
            let left = (segment.run)(&entering[entering.len() - 1], &vector, &frozen)?;
            entering.push(left);
        }

        let first = adapters.first_trainable().unwrap_or(LinearId::MAX);
        let embedders_train = first < self.embedders.ids.end;
        let vector = leaf(&vector, embedders_train)?;
        let mut vector_gradient: Option<Tensor> = None;
        let mut upstream: Vec<Tensor> = Vec::new();
        let mut value = None;
        for (segment, inputs) in segments.iter().zip(entering).rev() {
            let below = first < segment.ids.start;
            let leaves = inputs.iter().map(|x| leaf(x, below)).collect::<Result<Vec<_>>>()?;
            let left = (segment.run)(&leaves, &vector, adapters)?;
            let root = match value {
                None => value.insert(loss(&left[0])?).clone(),
                Some(_) => pushed(&left, &upstream)?,
            };
            let gradients = root.backward()?;
            sums.collect(&gradients)?;
            add(&mut vector_gradient, gradients.get(&vector))?;
            if !below {
                break;
            }
            upstream =
                leaves.iter().map(|x| gradients.get(x).cloned().map_or_else(|| x.zeros_like(), Ok)).collect::<candle_core::Result<_>>()?;
        }
        if embedders_train {
            let Embedded { picture, text, vector } = self.embed(latents, step, adapters)?;
            upstream.push(vector_gradient.map_or_else(|| vector.zeros_like(), Ok)?);
            sums.collect(&pushed(&[picture, text, vector], &upstream)?.backward()?)?;
        }
        Ok(value.expect("there is always an output segment"))
    }

    /// Double blocks, the join, single blocks, output: each from the states that enter it to those that leave it.
    fn segments<'a>(&'a self, positions: &'a Positions) -> Vec<Segment<'a>> {
        let mut segments: Vec<Segment> = Vec::new();
        for block in &self.transformer_blocks {
            let run = move |x: &[Tensor], vector: &Tensor, adapters: &AdapterSet| {
                let (picture, text) = block.forward(&x[0], &x[1], vector, positions, adapters)?;
                Ok(vec![picture, text])
            };
            segments.push(Segment { ids: block.ids.clone(), run: Box::new(run) });
        }
        let here = self.transformer_blocks.last().map_or(self.embedders.ids.end, |block| block.ids.end);
        segments.push(Segment { ids: here..here, run: Box::new(|x, _, _| Ok(vec![join(&x[1], &x[0])?])) });
        for block in &self.single_transformer_blocks {
            let run =
                move |x: &[Tensor], vector: &Tensor, adapters: &AdapterSet| Ok(vec![block.forward(&x[0], vector, positions, adapters)?]);
            segments.push(Segment { ids: block.ids.clone(), run: Box::new(run) });
        }
        let run =
            move |x: &[Tensor], vector: &Tensor, adapters: &AdapterSet| Ok(vec![self.output.forward(&x[0], vector, positions, adapters)?]);
        segments.push(Segment { ids: self.output.ids.clone(), run: Box::new(run) });
        segments
    }
}

type Run<'a> = dyn Fn(&[Tensor], &Tensor, &AdapterSet) -> Result<Vec<Tensor>> + 'a;

/// A stretch of the forward pass that is re-run as a whole.
struct Segment<'a> {
    /// The adaptable layers in it; ids grow along the forward pass.
    ids: Range<LinearId>,
    run: Box<Run<'a>>,
}

/// A fresh start of a graph, if gradients are wanted there.
fn leaf(x: &Tensor, wanted: bool) -> Result<Tensor> {
    if wanted { Ok(Var::from_tensor(x)?.into_inner()) } else { Ok(x.clone()) }
}

/// A scalar whose gradient at each output is the given upstream gradient: Σ y·g.
fn pushed(outputs: &[Tensor], upstream: &[Tensor]) -> Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for (y, g) in outputs.iter().zip(upstream) {
        add(&mut sum, Some(&(y * g)?.sum_all()?))?;
    }
    Ok(sum.expect("a segment has at least one output"))
}

fn add(sum: &mut Option<Tensor>, term: Option<&Tensor>) -> Result<()> {
    if let Some(term) = term {
        *sum = Some(match sum.take() {
            Some(sum) => (sum + term)?,
            None => term.clone(),
        });
    }
    Ok(())
}

/// Gradients gathered per variable.
struct Sums<'a> {
    variables: &'a [Var],
    gradients: Vec<Option<Tensor>>,
}

impl Sums<'_> {
    fn collect(&mut self, gradients: &GradStore) -> Result<()> {
        for (variable, sum) in self.variables.iter().zip(&mut self.gradients) {
            add(sum, gradients.get(variable))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<Tensor>> {
        let or_zeros = |(variable, gradient): (&Var, Option<Tensor>)| gradient.map_or_else(|| variable.zeros_like(), Ok);
        Ok(self.variables.iter().zip(self.gradients).map(or_zeros).collect::<candle_core::Result<_>>()?)
    }
}
