//! Layer norm, modulation, GELU, gates and residuals.

use crate::gpu::{DTYPES, Gpu, columns, error, exact, gradients, tolerance, with, worst};
use crate::report::Report;
use candle_core::{DType, Result, Tensor};
use engine::cuda::fp8::{self, Fp8, Fp8Rows};
use engine::cuda::gelu::{gelu, gelu_gradient};
use engine::cuda::norm::{Emit, layer_norm_modulate, layer_norm_modulate_gradient, modulation_gradients};
use engine::cuda::residual::{gate_gradient, gate_gradient_x, gate_residual};
use engine::ops::plain;

const EPSILON: f64 = 1e-6;
/// (pictures, tokens, width): odd ones, and FLUX's.
const SHAPES: [(usize, usize, usize); 8] =
    [(1, 1, 8), (3, 7, 24), (2, 5, 33), (1, 129, 250), (2, 3, 1280), (1, 65, 15360), (2, 11, 2049), (1, 4608, 3072)];
/// e4m3 has three bits after the first.
const FP8: f64 = 4e-2;

/// x, g of the dtype, and three vectors per picture that are parts of a wider tensor, as modulation vectors are.
struct Inputs {
    x: Tensor,
    other: Tensor,
    g: Tensor,
    vectors: [Tensor; 3],
}

impl Inputs {
    fn new(gpu: &Gpu, shape: (usize, usize, usize), dtype: DType) -> Result<Self> {
        let (b, _, c) = shape;
        let vectors = gpu.normal((b, 3 * c), DType::F32);
        let part = |index: usize| columns(&vectors, index * c, c);
        gpu.poison();
        Ok(Self {
            // With a mean of their own, as a residual stream has.
            x: (gpu.normal(shape, dtype) + 0.7)?,
            other: gpu.normal(shape, dtype),
            g: gpu.normal(shape, dtype),
            vectors: [part(0)?, part(1)?, part(2)?],
        })
    }
}

pub fn check(gpu: &Gpu, report: &mut Report) {
    for shape in SHAPES {
        for dtype in DTYPES {
            check_norm(gpu, report, shape, dtype);
            check_residual(gpu, report, shape, dtype);
            check_gelu(gpu, report, shape, dtype);
        }
    }
    strided(gpu, report);
}

fn check_norm(gpu: &Gpu, report: &mut Report, shape: (usize, usize, usize), dtype: DType) {
    let plain_norm = |x: &[Tensor]| plain::layer_norm_modulate(&x[0], &x[1], &x[2], EPSILON);
    report.check("layer_norm_modulate", (shape, dtype), tolerance(dtype), || {
        let Inputs { x, vectors: [shift, scale, _], .. } = Inputs::new(gpu, shape, dtype)?;
        let y = with([&x, &shift, &scale], |[x, shift, scale]| layer_norm_modulate(x, shift, scale, Emit::Plain))?.into_plain();
        error(&gpu.tensor(y, shape), &plain_norm(&[exact(&x)?, exact(&shift)?, exact(&scale)?])?)
    });
    report.check("layer_norm_modulate, also in fp8", (shape, dtype), FP8, || {
        let Inputs { x, vectors: [shift, scale, _], .. } = Inputs::new(gpu, shape, dtype)?;
        let rows = with([&x, &shift, &scale], |[x, shift, scale]| layer_norm_modulate(x, shift, scale, Emit::Both))?;
        let expected = plain_norm(&[exact(&x)?, exact(&shift)?, exact(&scale)?])?;
        let plain_error = error(&gpu.tensor(rows.plain.expect("both"), shape), &expected)?;
        let fp8_error = error(&dequantised(gpu, rows.fp8.expect("both"), shape)?, &expected)?;
        Ok(worst([plain_error / tolerance(dtype) * FP8, fp8_error]))
    });
    report.check("layer_norm_modulate_gradient", (shape, dtype), tolerance(dtype), || {
        let Inputs { x, other, g, vectors: [shift, scale, _] } = Inputs::new(gpu, shape, dtype)?;
        let alone = with([&x, &scale, &g], |[x, scale, g]| layer_norm_modulate_gradient(x, scale, g, None))?;
        let sum = with([&x, &scale, &g, &other], |[x, scale, g, beside]| layer_norm_modulate_gradient(x, scale, g, Some(beside)))?;
        let [expected, ..] = gradients([&x, &shift, &scale], &g, plain_norm)?;
        let of_sum = error(&gpu.tensor(sum, shape), &(&expected + exact(&other)?)?)?;
        Ok(worst([error(&gpu.tensor(alone, shape), &expected)?, of_sum]))
    });
    report.check("modulation_gradients", (shape, dtype), 2e-5, || {
        let Inputs { x, g, vectors: [shift, scale, _], .. } = Inputs::new(gpu, shape, dtype)?;
        let (dshift, dscale) = with([&x, &g], |[x, g]| modulation_gradients(x, g))?;
        let [_, of_shift, of_scale] = gradients([&x, &shift, &scale], &g, plain_norm)?;
        let per_picture = (shape.0, shape.2);
        Ok(worst([error(&gpu.tensor(dshift, per_picture), &of_shift)?, error(&gpu.tensor(dscale, per_picture), &of_scale)?]))
    });
}

fn check_residual(gpu: &Gpu, report: &mut Report, shape: (usize, usize, usize), dtype: DType) {
    let plain_gate = |x: &[Tensor]| plain::gate_residual(&x[0], &x[1], &x[2]);
    report.check("gate_residual", (shape, dtype), tolerance(dtype), || {
        let Inputs { x, other, vectors: [gate, ..], .. } = Inputs::new(gpu, shape, dtype)?;
        let y = with([&other, &gate, &x], |[residual, gate, x]| gate_residual(residual, gate, x))?;
        error(&gpu.tensor(y, shape), &plain_gate(&[exact(&other)?, exact(&gate)?, exact(&x)?])?)
    });
    report.check("gate_gradient_x, gate_gradient", (shape, dtype), tolerance(dtype), || {
        let Inputs { x, other, g, vectors: [gate, ..] } = Inputs::new(gpu, shape, dtype)?;
        let dx = with([&gate, &g], |[gate, g]| gate_gradient_x(gate, g))?;
        let dgate = with([&x, &g], |[x, g]| gate_gradient(x, g))?;
        let [_, of_gate, of_x] = gradients([&other, &gate, &x], &g, plain_gate)?;
        Ok(worst([error(&gpu.tensor(dx, shape), &of_x)?, error(&gpu.tensor(dgate, (shape.0, shape.2)), &of_gate)?]))
    });
}

fn check_gelu(gpu: &Gpu, report: &mut Report, shape: (usize, usize, usize), dtype: DType) {
    report.check("gelu", (shape, dtype), tolerance(dtype), || {
        let Inputs { x, .. } = Inputs::new(gpu, shape, dtype)?;
        let x = (x * 3.0)?;
        let y = with([&x], |[x]| gelu(x, Emit::Plain))?.into_plain();
        error(&gpu.tensor(y, shape), &plain::gelu(&exact(&x)?)?)
    });
    report.check("gelu in fp8", (shape, dtype), FP8, || {
        let Inputs { x, .. } = Inputs::new(gpu, shape, dtype)?;
        let rows = with([&x], |[x]| gelu(x, Emit::Fp8))?;
        error(&dequantised(gpu, rows.fp8.expect("asked for"), shape)?, &plain::gelu(&exact(&x)?)?)
    });
    report.check("gelu_gradient", (shape, dtype), tolerance(dtype), || {
        let Inputs { x, g, .. } = Inputs::new(gpu, shape, dtype)?;
        let x = (x * 3.0)?;
        let dx = with([&x, &g], |[x, g]| gelu_gradient(x, g))?;
        let [expected] = gradients([&x], &g, |x| plain::gelu(&x[0]))?;
        error(&gpu.tensor(dx, shape), &expected)
    });
}

/// The picture's rows of a joint tensor of two pictures, columns 8.. of a wider one, and one that no 16-byte access reaches.
fn strided(gpu: &Gpu, report: &mut Report) {
    for (name, start, width) in [("aligned slice", 8, 48), ("unaligned slice", 3, 41)] {
        for dtype in DTYPES {
            report.check(&format!("layer_norm_modulate of an {name}"), dtype, tolerance(dtype), || {
                let wide = gpu.normal((2, 9, 64), dtype);
                let x = columns(&wide.narrow(1, 4, 5)?, start, width)?;
                let (shift, scale) = (gpu.normal((2, width), DType::F32), gpu.normal((2, width), DType::F32));
                gpu.poison();
                let y = with([&x, &shift, &scale], |[x, shift, scale]| layer_norm_modulate(x, shift, scale, Emit::Plain))?.into_plain();
                let expected = plain::layer_norm_modulate(&exact(&x)?, &exact(&shift)?, &exact(&scale)?, EPSILON)?;
                error(&gpu.tensor(y, x.shape()), &expected)
            });
            report.check(&format!("gelu of an {name}"), dtype, tolerance(dtype), || {
                let wide = gpu.normal((2, 9, 64), dtype);
                let x = columns(&wide.narrow(1, 4, 5)?, start, width)?;
                gpu.poison();
                let y = with([&x], |[x]| gelu(x, Emit::Plain))?.into_plain();
                error(&gpu.tensor(y, x.shape()), &plain::gelu(&exact(&x)?)?)
            });
        }
    }
}

fn dequantised(gpu: &Gpu, rows: Fp8Rows, shape: (usize, usize, usize)) -> Result<Tensor> {
    let (data, scale) = (gpu.tensor(rows.data, shape), gpu.tensor(rows.scale, shape.0 * shape.1));
    let x = with([&data, &scale], |[data, scale]| fp8::dequantise(Fp8 { data, scale }, DType::F32))?;
    Ok(gpu.tensor(x, shape))
}

pub fn time(gpu: &Gpu, report: &mut Report) {
    for tokens in [4608, 2048] {
        time_width(gpu, report, (1, tokens, 3072));
        time_gelu(gpu, report, (1, tokens, 12288));
    }
    report.time("host: one launch of gate_gradient_x", (1, 1, 64), || {
        let inputs = Inputs::new(gpu, (1, 1, 64), DType::BF16)?;
        let start = std::time::Instant::now();
        for _ in 0..1000 {
            with([&inputs.vectors[0], &inputs.g], |[gate, g]| gate_gradient_x(gate, g))?;
        }
        Ok((start.elapsed().as_secs_f64() * 1e3, 0.0))
    });
}

/// Sets of inputs to take turns among, so that none is in the L2 cache from the run before.
const SETS: usize = 4;

fn sets(gpu: &Gpu, shape: (usize, usize, usize)) -> Result<Vec<Inputs>> {
    (0..SETS).map(|_| Inputs::new(gpu, shape, DType::BF16)).collect()
}

fn time_width(gpu: &Gpu, report: &mut Report, shape: (usize, usize, usize)) {
    let elements = shape.0 * shape.1 * shape.2;
    let mut row = |name: &str, bytes: usize, run: &dyn Fn(&Inputs) -> Result<()>| {
        report.time(name, shape, || {
            let sets = sets(gpu, shape)?;
            Ok((gpu.median(|number| run(&sets[number % SETS]))?, gpu.bytes(bytes * elements)))
        });
    };
    for (emit, bytes) in [(Emit::Plain, 4), (Emit::Fp8, 3), (Emit::Both, 5)] {
        row(&format!("layer_norm_modulate {emit:?}"), bytes, &|of| {
            with([&of.x, &of.vectors[0], &of.vectors[1]], |[x, shift, scale]| layer_norm_modulate(x, shift, scale, emit)).map(drop)
        });
    }
    row("gate_residual", 6, &|of| with([&of.other, &of.vectors[0], &of.x], |[r, gate, x]| gate_residual(r, gate, x)).map(drop));
    row("layer_norm_modulate_gradient", 8, &|of| {
        with([&of.x, &of.vectors[0], &of.g, &of.other], |[x, scale, g, beside]| layer_norm_modulate_gradient(x, scale, g, Some(beside)))
            .map(drop)
    });
    row("modulation_gradients", 4, &|of| with([&of.x, &of.g], |[x, g]| modulation_gradients(x, g)).map(drop));
    row("gate_gradient_x", 4, &|of| with([&of.vectors[0], &of.g], |[gate, g]| gate_gradient_x(gate, g)).map(drop));
    row("gate_gradient", 4, &|of| with([&of.x, &of.g], |[x, g]| gate_gradient(x, g)).map(drop));
}

fn time_gelu(gpu: &Gpu, report: &mut Report, shape: (usize, usize, usize)) {
    let elements = shape.0 * shape.1 * shape.2;
    for (emit, bytes) in [(Emit::Plain, 4), (Emit::Fp8, 3)] {
        report.time(&format!("gelu {emit:?}"), shape, || {
            let sets = sets(gpu, shape)?;
            let median = gpu.median(|number| with([&sets[number % SETS].x], |[x]| gelu(x, emit)).map(drop))?;
            Ok((median, gpu.bytes(bytes * elements)))
        });
    }
    report.time("gelu_gradient", shape, || {
        let sets = sets(gpu, shape)?;
        let run = |of: &Inputs| with([&of.x, &of.g], |[x, g]| gelu_gradient(x, g)).map(drop);
        Ok((gpu.median(|number| run(&sets[number % SETS]))?, gpu.bytes(6 * elements)))
    });
}
