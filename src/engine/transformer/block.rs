//! What double and single blocks have in common: running them forward, and backward from as much of the forward pass as was kept.

use super::{Checkpointing, Gradients, modulation::Modulations, positions::Positions};
use crate::{
    Result,
    adapter::SidePaths,
    linear::{Linear, LinearId},
    ops::{self, Attended},
};
use candle_core::Tensor;
use std::ops::Range;

/// What every block reads beside its states.
pub struct Context<'a> {
    pub positions: &'a Positions,
    pub modulations: &'a Modulations,
    pub paths: &'a SidePaths,
    pub keep: Keep,
}

/// What of a block's inside is to be there for a backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keep {
    Nothing,
    /// What leaves attention, with its log-sum-exp.
    Attention,
    /// What went into norms, rotations and GELUs too, which else are done in place.
    Everything,
}

impl From<Checkpointing> for Keep {
    fn from(checkpointing: Checkpointing) -> Self {
        match checkpointing {
            Checkpointing::None => Self::Everything,
            Checkpointing::Smart => Self::Attention,
            Checkpointing::Full => Self::Nothing,
        }
    }
}

/// A block in three pieces, so that a backward pass need not run again what it does not read: the last product feeds only the gated residual,
/// whose gradient reads neither.
pub trait Block {
    /// What flows from block to block.
    type State: Clone;
    /// What is computed between entering and the last product.
    type Inside;

    fn ids(&self) -> &Range<LinearId>;

    /// The layers that turn the vector of time, guidance and pooled text into shifts, scales and gates.
    fn norms(&self) -> Vec<&Linear>;

    /// All but the last product. `attended`: what attention left the first time, if it was kept.
    fn inside(&self, entering: &Entering<Self::State>, context: &Context, attended: Option<Attended>) -> Result<Self::Inside>;

    /// The last product and the residual.
    fn leave(&self, entering: &Entering<Self::State>, inside: &Self::Inside, context: &Context) -> Result<Self::State>;

    fn attended(inside: &Self::Inside) -> &Attended;

    /// g: the gradient of what left. Gradients of pairs go to `pass.gradients`.
    fn backward(&self, entering: &Entering<Self::State>, inside: &Self::Inside, g: Self::State, pass: &Pass)
    -> Result<Flowed<Self::State>>;
}

/// What enters a block.
pub struct Entering<S> {
    pub state: S,
    /// Of each of [`Block::norms`], [B, 3·N·C].
    pub modulations: Vec<Tensor>,
}

impl<S> Entering<S> {
    fn new<B: Block<State = S>>(state: S, block: &B, context: &Context) -> Self {
        Self { state, modulations: block.norms().into_iter().map(|norm| context.modulations.of(norm).clone()).collect() }
    }
}

/// What a block's backward pass needs to know of the whole.
pub struct Pass<'a> {
    pub context: &'a Context<'a>,
    pub gradients: &'a Gradients,
    /// Whether something below the block is trained.
    pub wants_state: bool,
    /// Whether something on or below its modulations is trained.
    pub wants_modulations: bool,
}

/// The gradients of what entered a block, where they were wanted.
pub struct Flowed<S> {
    pub state: Option<S>,
    /// As many as [`Block::norms`], or none.
    pub modulations: Vec<Tensor>,
}

/// What was kept of a block's forward pass.
pub struct Trace<B: Block> {
    entering: Entering<B::State>,
    kept: Kept<B::Inside>,
}

enum Kept<I> {
    Everything(I),
    Attention(Attended),
    Nothing,
}

/// Through all blocks.
pub fn forward<B: Block>(blocks: &[B], mut state: B::State, context: &Context) -> Result<B::State> {
    for block in blocks {
        let entering = Entering::new(state, block, context);
        state = block.leave(&entering, &block.inside(&entering, context, None)?, context)?;
    }
    Ok(state)
}

/// The same, keeping what the context says.
pub fn forward_tracing<B: Block>(blocks: &[B], mut state: B::State, context: &Context) -> Result<(B::State, Vec<Trace<B>>)> {
    let mut traces = Vec::with_capacity(blocks.len());
    for block in blocks {
        let entering = Entering::new(state, block, context);
        let inside = block.inside(&entering, context, None)?;
        state = block.leave(&entering, &inside, context)?;
        let kept = match context.keep {
            Keep::Everything => Kept::Everything(inside),
            Keep::Attention => Kept::Attention(B::attended(&inside).clone()),
            Keep::Nothing => Kept::Nothing,
        };
        traces.push(Trace { entering, kept });
    }
    Ok((state, traces))
}

impl<B: Block> Trace<B> {
    /// g: the gradient of what left the block.
    pub fn backward(self, block: &B, g: B::State, pass: &Pass) -> Result<Flowed<B::State>> {
        let Self { entering, kept } = self;
        let again = |attended, g| {
            let inside = || block.inside(&entering, pass.context, attended);
            ops::keeping_plain(inside, |inside| block.backward(&entering, &inside?, g, pass))
        };
        match kept {
            Kept::Everything(inside) => block.backward(&entering, &inside, g, pass),
            Kept::Attention(attended) => again(Some(attended), g),
            Kept::Nothing => again(None, g),
        }
    }
}
