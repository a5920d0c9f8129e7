//! The one linear layer: frozen weights, a bias, and whatever adapters a request mounts on it.

mod dora;

use crate::{
    Error, Result,
    adapter::{Added, Change, SidePath, SidePaths, Stacked},
    checkpoint::Keys,
    ops::{self, Activation, Reads},
    transformer::Gradients,
};
use candle_core::{D, DType, Tensor};

/// Names a linear layer of the transformer; [`AdapterSet`](crate::AdapterSet) is indexed by it.
pub type LinearId = usize;

/// y = x·Wᵀ + b + Σ scale·(x·Aᵀ)·Bᵀ, and other changes of W that adapters bring. Gradients flow to x and to the pairs, never to W or b.
///
/// It may stand for several layers of the checkpoint that read the same x, their outputs side by side, each with its own pairs; and x may
/// come in parts that the checkpoint's layer reads side by side.
pub struct Linear {
    /// None where no adapter reaches (text encoders, VAE).
    pub slots: Vec<Slot>,
    /// [out, in] for each part of x.
    weights: Vec<ops::Weight>,
    /// [out]
    bias: Option<Tensor>,
}

/// A layer of the checkpoint, and the columns of y that it makes.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub id: LinearId,
    pub first: usize,
    pub count: usize,
}

impl Linear {
    /// Reads `weight` [out, in], held in the precision of the keys, and `bias` [out].
    pub fn load(keys: &Keys, in_features: usize, out_features: usize) -> Result<Self> {
        Self::load_fused(std::slice::from_ref(keys), &[in_features], out_features)
    }

    /// Reads `weight` [out, in] of a layer that has no bias.
    pub fn load_unbiased(keys: &Keys, in_features: usize, out_features: usize) -> Result<Self> {
        let weight = ops::Weight::new(&keys.take("weight", &[out_features, in_features])?, keys.precision())?;
        Ok(Self { slots: Vec::new(), weights: vec![weight], bias: None })
    }

    /// Reads layers of `out_features` each that stand side by side; x comes in parts of these widths.
    pub fn load_fused(layers: &[Keys], parts: &[usize], out_features: usize) -> Result<Self> {
        let (in_features, precision) = (parts.iter().sum(), layers[0].precision());
        let take = |keys: &Keys| keys.take("weight", &[out_features, in_features]);
        let weight = Tensor::cat(&of_one_type(layers.iter().map(take).collect::<Result<_>>()?)?, 0)?;
        let part = |(first, count)| ops::Weight::new(&weight.narrow(1, first, count)?, precision);
        let weights = ranges(parts).map(part).collect::<Result<_>>()?;
        let biases = layers.iter().map(|keys| keys.take_active("bias", &[out_features])).collect::<Result<Vec<_>>>()?;
        Ok(Self { slots: Vec::new(), weights, bias: Some(Tensor::cat(&biases, 0)?) })
    }

    /// The same as [`Self::load`], with the weight in the host's memory in bf16 though a GPU multiplies with it.
    #[cfg(feature = "cuda")]
    pub fn load_on_host(keys: &Keys, in_features: usize, out_features: usize) -> Result<Self> {
        let weight = ops::Weight::on_host(&keys.take_on_host("weight", &[out_features, in_features])?, keys.device())?;
        Ok(Self { slots: Vec::new(), weights: vec![weight], bias: Some(keys.take_active("bias", &[out_features])?) })
    }

    /// What the layer reads of x: its values, if a pair sits on it.
    pub fn reads(&self, paths: &SidePaths) -> Reads {
        let reads = self.weights[0].reads();
        if self.beside(paths).is_some() { reads | Reads::VALUES } else { reads }
    }

    /// x: [.., in] → [.., out]
    pub fn forward(&self, x: &Activation, paths: &SidePaths) -> Result<Tensor> {
        self.forward_parts(&[x], paths)
    }

    /// The layer alone, for parts of the model that no adapter reaches.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(&x.into(), &self.weights[0], self.bias.as_ref())
    }

    /// x in parts, [.., in₀], [.., in₁], … → [.., out]
    pub fn forward_parts(&self, parts: &[&Activation], paths: &SidePaths) -> Result<Tensor> {
        let y = ops::linear(parts[0], &self.weights[0], self.bias.as_ref())?;
        for (x, weight) in parts.iter().zip(&self.weights).skip(1) {
            ops::add_linear(&y, x, weight)?;
        }
        self.add_side_path(&y, parts, paths)?;
        Ok(y)
    }

    /// Writes y into `out`, [.., out], which may be some tokens of a larger tensor.
    pub fn forward_into(&self, out: &Tensor, x: &Activation, paths: &SidePaths) -> Result<()> {
        ops::linear_into(out, x, &self.weights[0], self.bias.as_ref())?;
        self.add_side_path(out, &[x], paths)
    }

    /// gelu(y) as `reads` wants it, and y too if it `keeps` it.
    pub fn forward_gelu(&self, x: &Activation, reads: Reads, paths: &SidePaths, keeps: bool) -> Result<(Option<Tensor>, Activation)> {
        if !keeps && reads == Reads::VALUES && self.beside(paths).is_none() {
            return Ok((None, ops::linear_gelu(x, &self.weights[0], self.bias.as_ref())?.into()));
        }
        let y = self.forward(x, paths)?;
        let activated = ops::gelu_for(&y, reads)?;
        Ok((keeps.then_some(y), activated))
    }

    /// dX, added to `sum` if there is one; gradients of the pairs go to `gradients`. g: [.., out]
    pub fn backward(&self, x: &Activation, g: &Tensor, sum: Option<Tensor>, paths: &SidePaths, gradients: &Gradients) -> Result<Tensor> {
        let dx = ops::linear_gradient(g, &self.weights[0], sum)?;
        self.backward_side_path(&[x], g, &[&dx], paths, gradients)?;
        Ok(dx)
    }

    /// The same with x in parts: dX of each.
    pub fn backward_parts<const N: usize>(
        &self,
        parts: [&Activation; N],
        g: &Tensor,
        paths: &SidePaths,
        gradients: &Gradients,
    ) -> Result<[Tensor; N]> {
        let dx = self.weights.iter().map(|weight| ops::linear_gradient(g, weight, None)).collect::<Result<Vec<_>>>()?;
        self.backward_side_path(&parts, g, &dx.iter().collect::<Vec<_>>(), paths, gradients)?;
        Ok(dx.try_into().expect("a weight for each part"))
    }

    /// The gradients of the pairs alone, where nothing below asks for dX.
    pub fn backward_pairs(&self, x: &Activation, g: &Tensor, paths: &SidePaths, gradients: &Gradients) -> Result<()> {
        self.backward_side_path(&[x], g, &[], paths, gradients)
    }

    /// What the adapters add.
    fn beside<'a>(&self, paths: &'a SidePaths) -> Option<&'a SidePath> {
        paths.beside(self.slots.first()?.id)
    }

    fn add_side_path(&self, y: &Tensor, parts: &[&Activation], paths: &SidePaths) -> Result<()> {
        let Some(side_path) = self.beside(paths) else { return Ok(()) };
        self.add_changes(y, parts, &side_path.changes)?;
        let Some(stacked) = side_path.stacked(y.dtype())? else { return Ok(()) };
        let h = self.hidden(parts, &stacked.down)?;
        stacked.ups.iter().try_for_each(|up| ops::add_lora_up(&self.slots[up.slot].of(y)?, &up.of(&h)?, &up.b, up.scale))
    }

    /// What is more than a pair.
    fn add_changes(&self, y: &Tensor, parts: &[&Activation], changes: &[Change]) -> Result<()> {
        // These read what W alone has made, so they come before all else.
        let gains = self.add_lengths(y, parts, changes)?;
        for (change, gain) in changes.iter().zip(gains) {
            let (y, gained) = (self.slots[change.slot].of(y)?, change.dora.as_ref().zip(gain.as_ref()));
            match &change.added {
                Added::Pair(pair) => {
                    let factors = [pair.a.to_dtype(y.dtype())?, pair.b.to_dtype(y.dtype())?];
                    let [a, b] = match gained {
                        Some((dora, gain)) => dora.scaled_pair(factors, gain)?,
                        None => factors,
                    };
                    ops::add_lora_up(&y, &self.hidden(parts, &a)?, &b, pair.scale)?;
                }
                Added::Product(product, scale) => {
                    let matrix = product.matrix()?.to_dtype(y.dtype())?;
                    let matrix = match gained {
                        Some((dora, gain)) => dora.scaled(&matrix, gain)?,
                        None => matrix,
                    };
                    for (x, matrix) in parts.iter().zip(self.columns(&matrix)) {
                        ops::add_lora_up(&y, x.values()?, &matrix?, *scale)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// x·downᵀ
    fn hidden(&self, parts: &[&Activation], down: &Tensor) -> Result<Tensor> {
        let mut columns = self.columns(down);
        let h = ops::lora_down(parts[0].values()?, &columns.next().expect("a first part")?)?;
        for (x, a) in parts[1..].iter().zip(columns) {
            ops::add_lora_down(&h, x.values()?, &a?)?;
        }
        Ok(h)
    }

    /// dh = scale·g·B goes on to A and, where `dx` says so, to x: dA = dhᵀ·x, dB = scale·gᵀ·h, dX += dh·A.
    fn backward_side_path(
        &self,
        parts: &[&Activation],
        g: &Tensor,
        dx: &[&Tensor],
        paths: &SidePaths,
        gradients: &Gradients,
    ) -> Result<()> {
        let Some(side_path) = self.beside(paths) else { return Ok(()) };
        if !side_path.changes.is_empty() {
            return Err(Error::invalid("gradients flow through LoRA pairs only; train without LoHa, LoKr or DoRA adapters mounted"));
        }
        let Some(stacked) = side_path.stacked(g.dtype())? else { return Ok(()) };
        let Stacked { down, ups } = stacked.as_ref();
        let dh = ops::to_be_written(ops::with_last(g.shape(), down.dim(0)?), g)?;
        for up in ups {
            ops::lora_up_gradient_into(&up.of(&dh)?, &self.slots[up.slot].of(g)?, &up.b, up.scale)?;
        }
        for (dx, a) in dx.iter().zip(self.columns(down)) {
            ops::add_lora_down_gradient(dx, &dh, &a?)?;
        }
        for (up, da) in ups.iter().filter_map(|up| Some((up, gradients.of(up.ids[0])?))) {
            for (x, da) in parts.iter().zip(self.columns(da)) {
                ops::add_matrix_gradient(&da?, &up.exactly_of(&dh)?, x.values()?, 1.0)?;
            }
        }
        let trained: Vec<_> = ups.iter().filter_map(|up| Some((up, gradients.of(up.ids[1])?))).collect();
        if !trained.is_empty() {
            let h = self.hidden(parts, down)?;
            trained
                .iter()
                .try_for_each(|(up, db)| ops::add_matrix_gradient(db, &self.slots[up.slot].of(g)?, &up.exactly_of(&h)?, up.scale))?;
        }
        Ok(())
    }

    /// The columns of A, [r, in], that each part of x meets.
    fn columns<'a>(&self, a: &'a Tensor) -> impl Iterator<Item = Result<Tensor>> + use<'a> {
        let widths: Vec<usize> = self.weights.iter().map(ops::Weight::in_features).collect();
        ranges(&widths).collect::<Vec<_>>().into_iter().map(|(first, count)| Ok(a.narrow(1, first, count)?))
    }
}

impl Slot {
    /// Its columns of y or of y's gradient.
    fn of(self, y: &Tensor) -> Result<Tensor> {
        Ok(y.narrow(D::Minus1, self.first, self.count)?)
    }
}

/// As they are, or in f32 where they differ: some files hold the q, k and v of one block in several types.
fn of_one_type(weights: Vec<Tensor>) -> Result<Vec<Tensor>> {
    if weights.iter().all(|weight| weight.dtype() == weights[0].dtype()) {
        return Ok(weights);
    }
    Ok(weights.iter().map(|weight| weight.to_dtype(DType::F32)).collect::<candle_core::Result<_>>()?)
}

/// Start and width of each part.
fn ranges(widths: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    widths.iter().scan(0, |end, &width| {
        *end += width;
        Some((*end - width, width))
    })
}
