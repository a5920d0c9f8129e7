//! What an adapter adds to the weight of one linear layer: ΔW as LoRA, LoHa, LoKr or a whole matrix; with DoRA, the lengths it is brought to.

use crate::Result;
use candle_core::{DType, Device, Tensor};
use std::ops::Range;

/// ΔW = scale · B·A for one linear layer.
#[derive(Clone, Debug)]
pub struct LoraPair {
    /// [r, in], f32 or the type of activations
    pub a: Tensor,
    /// [out, r], of the same type
    pub b: Tensor,
    /// alpha / r (alpha / √r for rsLoRA), times the strength that the request gives.
    pub scale: f64,
}

impl LoraPair {
    pub fn rank(&self) -> usize {
        self.a.dims()[0]
    }
}

/// The change of one layer.
#[derive(Clone, Debug)]
pub struct Delta {
    pub update: Update,
    /// DoRA (Liu et al. 2024, arXiv 2402.09353).
    pub magnitude: Option<Magnitude>,
}

#[derive(Clone, Debug)]
pub enum Update {
    Pair(LoraPair),
    Product(Product),
}

/// ΔW = scale · some rows of a matrix that is made of factors whenever it is needed, one layer at a time.
#[derive(Clone, Debug)]
pub struct Product {
    pub form: Form,
    /// In this order; several where halves are turned.
    pub rows: Vec<Range<usize>>,
    pub scale: f64,
}

#[derive(Clone, Debug)]
pub enum Form {
    /// LoHa (Hyeon-Woo et al. 2022, arXiv 2108.06098): two matrices of one shape, element by element.
    Hadamard([Factor; 2]),
    /// LoKr (Yeh et al. 2024, arXiv 2309.14859): each element of the first times the whole second.
    Kronecker([Factor; 2]),
    Whole(Tensor),
}

/// A matrix, whole or as a product of two.
#[derive(Clone, Debug)]
pub enum Factor {
    Whole(Tensor),
    /// [n, r] and [r, m]
    Low(Tensor, Tensor),
}

/// W + ΔW keeps its directions; its rows or columns get these lengths.
#[derive(Clone, Debug)]
pub struct Magnitude {
    /// [out] or [in], f32
    pub values: Tensor,
    pub of: Axis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// A length for each row of W: PEFT's way.
    Outputs,
    /// A length for each column: OneTrainer's way, and LyCORIS' unless it is told otherwise.
    Inputs,
}

impl From<LoraPair> for Delta {
    fn from(pair: LoraPair) -> Self {
        Self { update: Update::Pair(pair), magnitude: None }
    }
}

impl Delta {
    /// The pair, if that is all there is to it.
    pub fn pair(&self) -> Option<&LoraPair> {
        match (&self.update, &self.magnitude) {
            (Update::Pair(pair), None) => Some(pair),
            _ => None,
        }
    }

    /// What this way of adapting is called.
    pub fn kind(&self) -> &'static str {
        match (&self.magnitude, &self.update) {
            (Some(_), _) => "DoRA",
            (None, Update::Pair(_)) => "LoRA",
            (None, Update::Product(Product { form: Form::Hadamard(_), .. })) => "LoHa",
            (None, Update::Product(Product { form: Form::Kronecker(_), .. })) => "LoKr",
            (None, Update::Product(Product { form: Form::Whole(_), .. })) => "a whole matrix",
        }
    }

    /// Of its factors; none if they are whole.
    pub fn rank(&self) -> Option<usize> {
        match &self.update {
            Update::Pair(pair) => Some(pair.rank()),
            Update::Product(product) => product.form.rank(),
        }
    }

    pub fn scale(&self) -> f64 {
        match &self.update {
            Update::Pair(pair) => pair.scale,
            Update::Product(product) => product.scale,
        }
    }

    /// Numbers it is made of.
    pub fn count(&self) -> usize {
        let update = match &self.update {
            Update::Pair(LoraPair { a, b, .. }) => a.elem_count() + b.elem_count(),
            Update::Product(product) => product.form.tensors().iter().map(|tensor| tensor.elem_count()).sum(),
        };
        update + self.magnitude.as_ref().map_or(0, |magnitude| magnitude.values.elem_count())
    }

    /// Where and in what type the layer's products are.
    pub fn to(&self, device: &Device, dtype: DType) -> Result<Self> {
        let update = self.update.map(|x| Ok(x.to_device(device)?.to_dtype(dtype)?))?;
        let place = |Magnitude { values, of }: &Magnitude| Ok::<_, crate::Error>(Magnitude { values: values.to_device(device)?, of: *of });
        Ok(Self { update, magnitude: self.magnitude.as_ref().map(place).transpose()? })
    }
}

impl Update {
    /// (out, in)
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::Pair(LoraPair { a, b, .. }) => (b.dims()[0], a.dims()[1]),
            Self::Product(product) => (product.rows.iter().map(ExactSizeIterator::len).sum(), product.form.shape().1),
        }
    }

    /// ΔW: [out, in]
    pub fn matrix(&self) -> Result<Tensor> {
        match self {
            Self::Pair(LoraPair { a, b, scale }) => Ok((b.matmul(a)? * *scale)?),
            Self::Product(product) => Ok((product.matrix()? * product.scale)?),
        }
    }

    /// Some rows of ΔW.
    pub fn rows(&self, rows: &[Range<usize>]) -> Result<Self> {
        match self {
            Self::Pair(pair) => Ok(Self::Pair(LoraPair { b: pick(&pair.b, rows)?, ..pair.clone() })),
            Self::Product(product) => {
                assert!(product.rows.len() == 1, "rows of a product are picked once");
                Ok(Self::Product(Product { rows: rows.to_vec(), ..product.clone() }))
            }
        }
    }

    fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        match self {
            Self::Pair(LoraPair { a, b, scale }) => Ok(Self::Pair(LoraPair { a: f(a)?, b: f(b)?, scale: *scale })),
            Self::Product(product) => Ok(Self::Product(Product { form: product.form.map(f)?, ..product.clone() })),
        }
    }
}

impl Product {
    /// All rows.
    pub fn new(form: Form, scale: f64) -> Self {
        let rows = form.shape().0;
        Self { form, rows: std::iter::once(0..rows).collect(), scale }
    }

    /// Without the scale: [out, in]
    pub fn matrix(&self) -> Result<Tensor> {
        pick(&self.form.matrix()?, &self.rows)
    }
}

/// These rows of a matrix, in this order.
fn pick(matrix: &Tensor, rows: &[Range<usize>]) -> Result<Tensor> {
    let picked = rows.iter().map(|range| matrix.narrow(0, range.start, range.len())).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Tensor::cat(&picked, 0)?.contiguous()?)
}

impl Form {
    fn shape(&self) -> (usize, usize) {
        match self {
            Self::Hadamard([first, _]) => first.shape(),
            Self::Kronecker([first, second]) => {
                (first.shape().0.saturating_mul(second.shape().0), first.shape().1.saturating_mul(second.shape().1))
            }
            Self::Whole(matrix) => (matrix.dims()[0], matrix.dims()[1]),
        }
    }

    pub(super) fn matrix(&self) -> Result<Tensor> {
        match self {
            Self::Hadamard([first, second]) => Ok((first.matrix()? * second.matrix()?)?),
            Self::Kronecker([first, second]) => {
                let ((a, b), (c, d)) = (first.shape(), second.shape());
                let (first, second) = (first.matrix()?.reshape((a, 1, b, 1))?, second.matrix()?.reshape((1, c, 1, d))?);
                // (a, c, b, d) -> (a·c, b·d)
                Ok(first.broadcast_mul(&second)?.reshape((a * c, b * d))?)
            }
            Self::Whole(matrix) => Ok(matrix.clone()),
        }
    }

    fn rank(&self) -> Option<usize> {
        match self {
            Self::Hadamard(factors) | Self::Kronecker(factors) => factors.iter().filter_map(Factor::rank).max(),
            Self::Whole(_) => None,
        }
    }

    fn tensors(&self) -> Vec<&Tensor> {
        match self {
            Self::Hadamard([first, second]) | Self::Kronecker([first, second]) => [first.tensors(), second.tensors()].concat(),
            Self::Whole(matrix) => vec![matrix],
        }
    }

    fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(match self {
            Self::Hadamard([first, second]) => Self::Hadamard([first.map(&f)?, second.map(&f)?]),
            Self::Kronecker([first, second]) => Self::Kronecker([first.map(&f)?, second.map(&f)?]),
            Self::Whole(matrix) => Self::Whole(f(matrix)?),
        })
    }
}

impl Factor {
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::Whole(matrix) => (matrix.dims()[0], matrix.dims()[1]),
            Self::Low(tall, wide) => (tall.dims()[0], wide.dims()[1]),
        }
    }

    pub fn rank(&self) -> Option<usize> {
        match self {
            Self::Whole(_) => None,
            Self::Low(_, wide) => Some(wide.dims()[0]),
        }
    }

    pub(super) fn matrix(&self) -> Result<Tensor> {
        match self {
            Self::Whole(matrix) => Ok(matrix.clone()),
            Self::Low(tall, wide) => Ok(tall.matmul(wide)?),
        }
    }

    fn tensors(&self) -> Vec<&Tensor> {
        match self {
            Self::Whole(matrix) => vec![matrix],
            Self::Low(tall, wide) => vec![tall, wide],
        }
    }

    fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(match self {
            Self::Whole(matrix) => Self::Whole(f(matrix)?),
            Self::Low(tall, wide) => Self::Low(f(tall)?, f(wide)?),
        })
    }
}
