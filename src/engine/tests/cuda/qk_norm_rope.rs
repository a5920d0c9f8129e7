//! RMSNorm and rotary embedding in a packed qkv.

use crate::gpu::{DTYPES, Gpu, error, exact, gradients, tolerance, with, worst};
use crate::report::Report;
use candle_core::{DType, Layout, Result, Tensor};
use engine::cuda::qk_norm_rope::{QkNormRope, qk_norm_rope, qk_norm_rope_gradient, qk_norm_rope_gradient_in_place, qk_norm_rope_in_place};
use engine::cuda::{Arg, Out};
use engine::ops::plain;

/// (pictures, tokens, heads, width, text tokens): odd ones, and FLUX's.
const SHAPES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 1, 1, 2, 0),
    (2, 5, 3, 6, 2),
    (3, 7, 4, 24, 7),
    (1, 129, 5, 64, 40),
    (2, 9, 7, 250, 3),
    (1, 33, 2, 256, 0),
    (1, 4608, 24, 128, 512),
];

struct Inputs {
    qkv: Tensor,
    g: Tensor,
    /// q and k of the text, q and k of the picture.
    weights: [Tensor; 4],
    cos: Tensor,
    sin: Tensor,
    heads: usize,
    text_tokens: usize,
}

impl Inputs {
    fn new(gpu: &Gpu, of: (usize, usize, usize, usize, usize), dtype: DType) -> Result<Self> {
        let (b, s, heads, d, text_tokens) = of;
        let angles = gpu.normal((s, d / 2), DType::F32);
        Ok(Self {
            qkv: gpu.normal((b, s, 3, heads, d), dtype),
            g: gpu.normal((b, s, 3, heads, d), dtype),
            weights: std::array::from_fn(|_| gpu.normal(d, DType::F32)),
            cos: angles.cos()?,
            sin: angles.sin()?,
            heads,
            text_tokens,
        })
    }

    fn run<T>(&self, run: impl FnOnce(Arg, Arg, QkNormRope) -> Result<T>) -> Result<T> {
        let [tq, tk, pq, pk] = &self.weights;
        with([&self.qkv, &self.g, tq, tk, pq, pk, &self.cos, &self.sin], |[qkv, g, tq, tk, pq, pk, cos, sin]| {
            let with = QkNormRope { heads: self.heads, text: [tq, tk], picture: [pq, pk], text_tokens: self.text_tokens, cos, sin };
            run(qkv, g, with)
        })
    }

    /// The plain twin, part by part.
    fn plain(&self, qkv: &Tensor) -> Result<Tensor> {
        let (cos, sin, s) = (exact(&self.cos)?, exact(&self.sin)?, self.cos.dim(0)?);
        let part = |which: usize| qkv.narrow(2, which, 1)?.squeeze(2);
        let turned = |which: usize| -> Result<Tensor> {
            let x = part(which)?;
            let rows = |weight: &Tensor, start: usize, count: usize| {
                let angle = |angle: &Tensor| angle.narrow(0, start, count);
                plain::rms_norm_rope(&x.narrow(1, start, count)?, &exact(weight)?, &angle(&cos)?, &angle(&sin)?, 1e-6)
            };
            let streams = [(0, self.text_tokens, &self.weights[which]), (self.text_tokens, s - self.text_tokens, &self.weights[2 + which])];
            let streams = streams.into_iter().filter(|(_, count, _)| *count > 0);
            let streams = streams.map(|(start, count, weight)| rows(weight, start, count)).collect::<Result<Vec<_>>>()?;
            Tensor::cat(&streams, 1)
        };
        Tensor::stack(&[turned(0)?, turned(1)?, part(2)?], 2)
    }

    /// `x` after a function that works in place.
    fn in_place(&self, gpu: &Gpu, x: &Tensor, run: impl FnOnce(Out, Arg, QkNormRope) -> Result<()>) -> Result<Tensor> {
        let layout = Layout::contiguous(x.shape());
        let mut storage = with([x], |[x]| candle_core::backend::BackendStorage::try_clone(x.0, x.1))?;
        self.run(|qkv, _, with| run((&mut storage, &layout), qkv, with))?;
        Ok(gpu.tensor(storage, x.shape()))
    }
}

pub fn check(gpu: &Gpu, report: &mut Report) {
    for shape in SHAPES {
        for dtype in DTYPES {
            report.check("qk_norm_rope, fresh and in place", (shape, dtype), tolerance(dtype), || {
                let of = Inputs::new(gpu, shape, dtype)?;
                gpu.poison();
                let y = gpu.tensor(of.run(|qkv, _, with| qk_norm_rope(qkv, with))?, of.qkv.shape());
                let over = of.in_place(gpu, &of.qkv, |at, _, with| qk_norm_rope_in_place(at, with))?;
                let expected = of.plain(&exact(&of.qkv)?)?;
                Ok(worst([error(&y, &expected)?, error(&over, &expected)?]))
            });
            report.check("qk_norm_rope_gradient, fresh and in place", (shape, dtype), tolerance(dtype), || {
                let of = Inputs::new(gpu, shape, dtype)?;
                gpu.poison();
                let dqkv = gpu.tensor(of.run(qk_norm_rope_gradient)?, of.qkv.shape());
                let over = of.in_place(gpu, &of.g, |at, qkv, with| qk_norm_rope_gradient_in_place(qkv, at, with))?;
                let [expected] = gradients([&of.qkv], &of.g, |x| of.plain(&x[0]))?;
                Ok(worst([error(&dqkv, &expected)?, error(&over, &expected)?]))
            });
        }
    }
}

pub fn time(gpu: &Gpu, report: &mut Report) {
    for shape in [(1, 4608, 24, 128, 512), (1, 2048, 24, 128, 512)] {
        let bytes = 2 * 3 * shape.1 * shape.2 * shape.3;
        report.time("qk_norm_rope", shape, || {
            let sets = (0..3).map(|_| Inputs::new(gpu, shape, DType::BF16)).collect::<Result<Vec<_>>>()?;
            let run = |of: &Inputs| of.run(|qkv, _, with| qk_norm_rope(qkv, with)).map(drop);
            Ok((gpu.median(|number| run(&sets[number % 3]))?, gpu.bytes(2 * bytes)))
        });
        report.time("qk_norm_rope_gradient", shape, || {
            let sets = (0..3).map(|_| Inputs::new(gpu, shape, DType::BF16)).collect::<Result<Vec<_>>>()?;
            let run = |of: &Inputs| of.run(qk_norm_rope_gradient).map(drop);
            Ok((gpu.median(|number| run(&sets[number % 3]))?, gpu.bytes(2 * bytes + bytes * 2 / 3)))
        });
        report.time("qk_norm_rope_in_place", shape, || {
            let of = Inputs::new(gpu, shape, DType::BF16)?;
            let layout = Layout::contiguous(of.qkv.shape());
            let mut sets = (0..3).map(|_| with([&of.qkv], |[x]| candle_core::backend::BackendStorage::try_clone(x.0, x.1)));
            let mut sets = [sets.next(), sets.next(), sets.next()].map(|set| set.expect("three"));
            let median = gpu.median(|number| match &mut sets[number % 3] {
                Ok(storage) => of.run(|_, _, with| qk_norm_rope_in_place((storage, &layout), with)),
                Err(error) => candle_core::bail!("{error}"),
            })?;
            Ok((median, gpu.bytes(2 * bytes * 2 / 3)))
        });
    }
}
