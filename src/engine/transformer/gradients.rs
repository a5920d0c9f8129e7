//! Loss and gradients of the tensors inside an adapter, with as much of the forward pass kept for the backward pass as memory allows.

use super::{
    Step, Transformer,
    block::{self, Block, Context, Keep, Pass, Trace},
    embed::Embedded,
    join,
    modulation::Modulations,
};
use crate::{
    AdapterSet, Error, Result,
    adapter::SidePaths,
    cores::on_the_cores,
    latents::PackedLatents,
    linear::{Linear, LinearId},
    ops::Activation,
};
use candle_core::{DType, Device, Tensor, TensorId, Var};
use std::collections::HashMap;

/// What is kept of each block for the backward pass; the rest is computed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Checkpointing {
    /// Everything that a gradient reads.
    #[default]
    None,
    /// What enters the block and what leaves its attention: all products but the last run again.
    Smart,
    /// What enters the block.
    Full,
}

/// A differentiable scalar of the prediction.
pub type Loss<'a> = dyn Fn(&Tensor) -> Result<Tensor> + Sync + 'a;

/// Gradients of variables, one after the other in a flat buffer.
pub struct Gradients {
    flat: Tensor,
    /// Of each variable, in `flat`.
    views: Vec<Tensor>,
    places: HashMap<TensorId, usize>,
}

impl Gradients {
    pub fn zeros(variables: &[Var], device: &Device) -> Result<Self> {
        let flat = Tensor::zeros(variables.iter().map(|variable| variable.elem_count()).sum::<usize>(), DType::F32, device)?;
        let mut end = 0;
        let view = |variable: &Var| {
            end += variable.elem_count();
            Ok(flat.narrow(0, end - variable.elem_count(), variable.elem_count())?.reshape(variable.shape())?)
        };
        let views = variables.iter().map(view).collect::<Result<_>>()?;
        let places = variables.iter().enumerate().map(|(i, variable)| (variable.id(), i)).collect();
        Ok(Self { flat, views, places })
    }

    /// All of them in the order of the variables, [n] f32.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// One for each variable.
    pub fn views(&self) -> &[Tensor] {
        &self.views
    }

    /// Back to zero.
    pub fn clear(&self) -> Result<()> {
        Ok(self.flat.zero_set()?)
    }

    /// Where the gradient of a tensor is summed up, if it is one of the variables.
    pub(crate) fn of(&self, id: TensorId) -> Option<&Tensor> {
        self.places.get(&id).map(|&place| &self.views[place])
    }

    /// The lowest layer with a variable on it.
    fn first_layer(&self, paths: &SidePaths) -> LinearId {
        paths.first_trained(self).unwrap_or(LinearId::MAX)
    }

    fn is_on(&self, linear: &Linear, paths: &SidePaths) -> bool {
        paths.is_trained(linear.slots[0].id, self)
    }
}

impl Transformer {
    /// Loss and gradients of the trainable tensors `variables` (the `Var`s inside `adapters`, in the order given) for a loss of the
    /// prediction. Returns (loss, one gradient per variable: zeros where nothing flowed); the loss is a scalar on the device that nobody has
    /// waited for yet.
    pub fn gradients(
        &self,
        latents: &PackedLatents,
        step: &Step,
        adapters: &AdapterSet,
        variables: &[Var],
        checkpointing: Checkpointing,
        loss: &Loss,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let gradients = Gradients::zeros(variables, &self.device)?;
        let loss = self.add_gradients(latents, step, adapters, &gradients, checkpointing, loss)?;
        Ok((loss, gradients.views))
    }

    /// The same, adding to `gradients`. Returns the loss, a scalar on the device that nobody has waited for yet.
    pub fn add_gradients(
        &self,
        latents: &PackedLatents,
        step: &Step,
        adapters: &AdapterSet,
        gradients: &Gradients,
        checkpointing: Checkpointing,
        loss: &Loss,
    ) -> Result<Tensor> {
        on_the_cores(|| Run { transformer: self, latents, step, gradients }.gradients(adapters, checkpointing, loss))
    }
}

/// One forward and backward pass.
struct Run<'a> {
    transformer: &'a Transformer,
    latents: &'a PackedLatents,
    step: &'a Step<'a>,
    gradients: &'a Gradients,
}

impl Run<'_> {
    fn gradients(&self, adapters: &AdapterSet, checkpointing: Checkpointing, loss: &Loss) -> Result<Tensor> {
        let (model, paths) = (self.transformer, &SidePaths::new(adapters, &self.transformer.products, self.transformer.dtype)?);
        let inputs = model.inputs(self.latents, self.step)?;
        let moment = inputs.moment(self.step);
        let made = match self.step.modulations {
            Some(modulations) => Made { modulations: modulations.clone(), vector: None },
            None => Made::now(model, model.embedders.vector(moment, paths)?, paths)?,
        };
        let context = Context { positions: &inputs.positions, modulations: &made.modulations, paths, keep: checkpointing.into() };
        let again = Context { keep: Keep::Everything, ..context };
        let mut down = Downward::new(model, &again, self.gradients, made.vector.clone())?;

        let Embedded { picture, text } = model.embedders.forward(&inputs.latents, &inputs.text, paths)?;
        let (both, doubles) = block::forward_tracing(&model.transformer_blocks, [text, picture], &context)?;
        let (joint, singles) = block::forward_tracing(&model.single_transformer_blocks, join(&both)?, &context)?;
        let output = model.output.inside(&joint, &context)?;
        let (loss, g) = differentiate(&model.output.leave(&output, paths)?, loss)?;

        if down.first == LinearId::MAX {
            return Ok(loss);
        }
        let (g, dmodulation) = model.output.backward(&output, &g, &context, self.gradients)?;
        if down.wants(&[&model.output.norm_out]) {
            down.norm(&model.output.norm_out, &dmodulation)?;
        }
        let Some(g) = down.blocks(&model.single_transformer_blocks, singles, g)? else { return Ok(loss) };
        let (text_tokens, tokens) = (inputs.positions.text_tokens, inputs.latents.dim(1)?);
        let both = [g.narrow(1, 0, text_tokens)?, g.narrow(1, text_tokens, tokens)?];
        let Some([text, picture]) = down.blocks(&model.transformer_blocks, doubles, both)? else { return Ok(loss) };
        model.embedders.backward(&inputs.latents, &inputs.text, &Embedded { picture, text }, paths, self.gradients)?;
        if let Some(g) = down.dvector {
            model.embedders.vector_backward(moment, &g, paths, self.gradients)?;
        }
        Ok(loss)
    }
}

/// The modulations of a pass, and what they were made of if it was made here.
struct Made {
    modulations: Modulations,
    vector: Option<Tensor>,
}

impl Made {
    fn now(model: &Transformer, vector: Tensor, paths: &SidePaths) -> Result<Self> {
        Ok(Self { modulations: model.modulations_of(&vector, paths)?, vector: Some(vector) })
    }
}

/// The loss of a prediction, and the prediction's gradient.
fn differentiate(prediction: &Tensor, loss: &Loss) -> Result<(Tensor, Tensor)> {
    let leaf = Var::from_tensor(prediction)?.into_inner();
    let loss = loss(&leaf)?;
    let gradient = loss.backward()?.remove(&leaf).map_or_else(|| leaf.zeros_like(), Ok)?;
    Ok((loss.detach().to_dtype(DType::F32)?, gradient))
}

/// The way from the last block down to the first trained layer.
struct Downward<'a> {
    context: &'a Context<'a>,
    gradients: &'a Gradients,
    /// The lowest trained layer.
    first: LinearId,
    /// Whether it is one of the embedders, which are the lowest and make the vector.
    wants_vector: bool,
    /// [B, C], unless modulations were made ahead.
    vector: Option<Activation>,
    dvector: Option<Tensor>,
}

impl<'a> Downward<'a> {
    fn new(model: &Transformer, context: &'a Context, gradients: &'a Gradients, vector: Option<Tensor>) -> Result<Self> {
        let first = gradients.first_layer(context.paths);
        let wants_vector = first < model.embedders.ids.end;
        let down = Self { context, gradients, first, wants_vector, vector: vector.map(Activation::from), dvector: None };
        if down.vector.is_none() && down.wants(&model.norms()) {
            return Err(Error::invalid(
                "a layer of modulation or embedding is trained, and modulations made ahead know no gradient: leave them out",
            ));
        }
        Ok(down)
    }

    /// Whether something on or below these layers of modulation is trained.
    fn wants(&self, norms: &[&Linear]) -> bool {
        self.wants_vector || norms.iter().any(|norm| self.gradients.is_on(norm, self.context.paths))
    }

    /// Through blocks, last first. The gradient of what entered them, unless nothing below is trained.
    fn blocks<B: Block>(&mut self, blocks: &[B], traces: Vec<Trace<B>>, mut g: B::State) -> Result<Option<B::State>> {
        for (block, trace) in blocks.iter().zip(traces).rev() {
            if self.first >= block.ids().end {
                return Ok(None);
            }
            let pass = Pass {
                context: self.context,
                gradients: self.gradients,
                wants_state: self.first < block.ids().start,
                wants_modulations: self.wants(&block.norms()),
            };
            let flowed = trace.backward(block, g, &pass)?;
            for (norm, gradient) in block.norms().into_iter().zip(&flowed.modulations) {
                self.norm(norm, gradient)?;
            }
            match flowed.state {
                Some(below) => g = below,
                None => return Ok(None),
            }
        }
        Ok(Some(g))
    }

    /// From a modulation to the vector and to the pairs on the layer between.
    fn norm(&mut self, norm: &Linear, g: &Tensor) -> Result<()> {
        let (paths, gradients) = (self.context.paths, self.gradients);
        let vector = self.vector.as_ref().expect("made here if it is wanted");
        if self.wants_vector {
            self.dvector = Some(norm.backward(vector, g, self.dvector.take(), paths, gradients)?);
        } else {
            norm.backward_pairs(vector, g, paths, gradients)?;
        }
        Ok(())
    }
}
