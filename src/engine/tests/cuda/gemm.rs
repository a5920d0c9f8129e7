//! Products: shapes of FLUX, slices of larger tensors, small ranks, fp8.

use crate::gpu::{DTYPES, Gpu, error, exact, tolerance, with, worst};
use crate::report::Report;
use candle_core::backend::BackendStorage;
use candle_core::{D, DType, Device, Layout, Result, Tensor};
use engine::cuda::Arg;
use engine::cuda::fp8::{self, Fp8, Fp8Rows};
use engine::cuda::gemm::{self, Epilogue};
use engine::cuda::pad;

/// (pictures, tokens, in, out): odd ones, then FLUX's and those of a rank-4 adapter.
const SHAPES: [(usize, usize, usize, usize); 9] = [
    (1, 1, 8, 8),
    (3, 7, 33, 5),
    (2, 129, 250, 48),
    (1, 77, 4096, 3072),
    (1, 2048, 3072, 4),
    (1, 2048, 4, 3072),
    (2, 512, 3072, 16),
    (1, 4608, 3072, 9216),
    (1, 4096, 12288, 3072),
];

/// The tensor cores add fp8 products in some 14 bits.
const FP8: f64 = 1e-2;

/// In f32 on the CPU: the sums of a product in f64 would take minutes, and f32's are a thousand times better than bf16.
fn host(x: &Tensor) -> Result<Tensor> {
    x.to_device(&Device::Cpu)?.to_dtype(DType::F32)
}

fn rows(x: &Tensor) -> Result<Tensor> {
    host(x)?.reshape(((), x.dim(D::Minus1)?))
}

/// f32 sums of several thousand terms, in another order.
fn product_tolerance(dtype: DType) -> f64 {
    tolerance(dtype).max(1e-5)
}

pub fn check(gpu: &Gpu, report: &mut Report) {
    for shape in SHAPES {
        for dtype in DTYPES {
            check_layer(gpu, report, shape, dtype);
        }
    }
    for dtype in DTYPES {
        check_slices(gpu, report, dtype);
        check_padded(gpu, report, dtype);
    }
    for shape in [(1, 7, 32, 16), (2, 129, 256, 48), (1, 512, 3072, 9216), (1, 4608, 12288, 3072)] {
        check_fp8(gpu, report, shape);
    }
}

fn check_layer(gpu: &Gpu, report: &mut Report, shape: (usize, usize, usize, usize), dtype: DType) {
    let (b, s, k, n) = shape;
    let inputs = || {
        let inputs = (gpu.normal((b, s, k), dtype), gpu.normal((n, k), dtype), gpu.normal(n, dtype), gpu.normal((b, s, n), dtype));
        gpu.poison();
        inputs
    };
    for gelu in [false, true] {
        report.check(&format!("linear with bias, gelu {gelu}"), (shape, dtype), product_tolerance(dtype), || {
            let (x, w, bias, _) = inputs();
            let y = with([&x, &w, &bias], |[x, w, bias]| gemm::linear(x, w, Epilogue { bias: Some(bias), gelu, ..Epilogue::default() }))?;
            let expected = rows(&x)?.matmul(&host(&w)?.t()?)?.broadcast_add(&host(&bias)?)?;
            let expected = if gelu { expected.gelu()? } else { expected };
            error(&gpu.tensor(y, (b * s, n)), &expected)
        });
    }
    report.check("linear that adds, alpha 0.7", (shape, dtype), product_tolerance(dtype), || {
        let (x, w, _, y) = inputs();
        let epilogue = Epilogue { alpha: 0.7, add: true, ..Epilogue::default() };
        let sum = onto(gpu, &y, |storage, layout| with([&x, &w], |[x, w]| gemm::linear_into(x, w, epilogue, (storage, layout))))?;
        let expected = (rows(&y)? + (rows(&x)?.matmul(&host(&w)?.t()?)? * 0.7)?)?;
        error(&sum.reshape((b * s, n))?, &expected)
    });
    report.check("input_gradient", (shape, dtype), product_tolerance(dtype), || {
        let (_, w, _, g) = inputs();
        let dx = with([&g, &w], |[g, w]| gemm::input_gradient(g, w, 0.7))?;
        error(&gpu.tensor(dx, (b * s, k)), &(rows(&g)?.matmul(&host(&w)?)? * 0.7)?)
    });
    report.check("weight_gradient, fresh and added", (shape, dtype), 2e-5, || {
        let (x, _, _, g) = inputs();
        let dw = gpu.tensor(with([&g, &x], |[g, x]| gemm::weight_gradient(g, x, 0.7))?, (n, k));
        let twice =
            onto(gpu, &dw, |storage, layout| with([&g, &x], |[g, x]| gemm::weight_gradient_into(g, x, 0.7, true, (storage, layout))))?;
        let expected = (rows(&g)?.t()?.matmul(&rows(&x)?)? * 0.7)?;
        Ok(worst([error(&dw, &expected)?, error(&twice, &(expected * 2.0)?)?]))
    });
}

/// A copy of `x` after `run` wrote onto it.
fn onto(gpu: &Gpu, x: &Tensor, run: impl FnOnce(&mut candle_core::CudaStorage, &Layout) -> Result<()>) -> Result<Tensor> {
    let mut storage = with([x], |[x]| BackendStorage::try_clone(x.0, x.1))?;
    run(&mut storage, &Layout::contiguous(x.shape()))?;
    Ok(gpu.tensor(storage, x.shape()))
}

/// Text and picture into one joint tensor, then an adapter onto its middle third; the same back.
fn check_slices(gpu: &Gpu, report: &mut Report, dtype: DType) {
    const B: usize = 2;
    const TEXT: usize = 5;
    const PICTURE: usize = 12;
    const C: usize = 48;
    let whole = || Layout::contiguous((B, TEXT + PICTURE, 3 * C));
    report.check("two products and an adapter into one tensor", dtype, product_tolerance(dtype), || {
        let (text, picture) = (gpu.normal((B, TEXT, C), dtype), gpu.normal((B, PICTURE, C), dtype));
        let (w_text, w_picture, bias) = (gpu.normal((3 * C, C), dtype), gpu.normal((3 * C, C), dtype), gpu.normal(3 * C, dtype));
        let (h, up) = (gpu.normal((B, PICTURE, 4), dtype), gpu.normal((C, 4), dtype));
        gpu.poison();
        let mut joint = engine::cuda::uninitialised(gpu.cuda(), B * (TEXT + PICTURE) * 3 * C, dtype)?;
        let text_rows = whole().narrow(1, 0, TEXT)?;
        let picture_rows = whole().narrow(1, TEXT, PICTURE)?;
        with([&text, &w_text, &bias], |[x, w, bias]| {
            gemm::linear_into(x, w, Epilogue { bias: Some(bias), ..Epilogue::default() }, (&mut joint, &text_rows))
        })?;
        with([&picture, &w_picture], |[x, w]| gemm::linear_into(x, w, Epilogue::default(), (&mut joint, &picture_rows)))?;
        let keys = picture_rows.narrow(2, C, C)?;
        let adds = Epilogue { alpha: 0.5, add: true, ..Epilogue::default() };
        with([&h, &up], |[h, up]| gemm::linear_into(h, up, adds, (&mut joint, &keys)))?;
        let joint = gpu.tensor(joint, (B, TEXT + PICTURE, 3 * C));
        let times = |x: &Tensor, w: &Tensor| host(x)?.broadcast_matmul(&host(w)?.t()?);
        let side = (times(&h, &up)? * 0.5)?.pad_with_zeros(2, C, C)?;
        let expected = [times(&text, &w_text)?.broadcast_add(&host(&bias)?)?, (times(&picture, &w_picture)? + side)?];
        error(&joint, &Tensor::cat(&expected, 1)?)
    });
    report.check("gradients out of slices of one tensor", dtype, product_tolerance(dtype), || {
        let (joint, w, h) = (gpu.normal((B, TEXT + PICTURE, 3 * C), dtype), gpu.normal((C, C), dtype), gpu.normal((B, PICTURE, 4), dtype));
        let g = joint.narrow(1, TEXT, PICTURE)?.narrow(2, C, C)?;
        gpu.poison();
        let dx = gpu.tensor(with([&g, &w], |[g, w]| gemm::input_gradient(g, w, 1.0))?, (B, PICTURE, C));
        let db = gpu.tensor(with([&g, &h], |[g, h]| gemm::weight_gradient(g, h, 1.0))?, (C, 4));
        let of_g = host(&g.contiguous()?)?;
        let expected_db = of_g.reshape(((), C))?.t()?.matmul(&rows(&h)?)?;
        Ok(worst([error(&dx, &of_g.broadcast_matmul(&host(&w)?)?)?, error(&db, &expected_db)?]))
    });
}

fn check_padded(gpu: &Gpu, report: &mut Report, dtype: DType) {
    for ((rows, columns), (to_rows, to_columns)) in [((5, 33), (8, 33)), ((33, 5), (33, 8)), ((4, 3072), (8, 3072)), ((1, 1), (3, 7))] {
        let shape = (rows, columns, to_rows, to_columns, dtype);
        report.check("padded", shape, tolerance(DType::BF16), || {
            // Columns of a wider matrix.
            let x = gpu.normal((rows, columns + 3), dtype).narrow(1, 2, columns)?;
            gpu.poison();
            let padded = gpu.tensor(with([&x], |[x]| pad::padded(x, (to_rows, to_columns), DType::BF16))?, (to_rows, to_columns));
            error(&padded, &x.pad_with_zeros(0, 0, to_rows - rows)?.pad_with_zeros(1, 0, to_columns - columns)?)
        });
    }
}

struct Fp8Layer {
    x: Fp8Rows,
    w: Fp8Rows,
    shape: (usize, usize, usize, usize),
}

impl Fp8Layer {
    fn new(gpu: &Gpu, shape: (usize, usize, usize, usize)) -> Result<Self> {
        let (b, s, k, n) = shape;
        let quantised = |x: &Tensor| with([x], |[x]| fp8::quantise(x));
        Ok(Self { x: quantised(&gpu.normal((b, s, k), DType::BF16))?, w: quantised(&gpu.normal((n, k), DType::BF16))?, shape })
    }

    fn run<T>(&self, run: impl FnOnce(Fp8, Fp8) -> Result<T>) -> Result<T> {
        let (b, s, k, n) = self.shape;
        let layouts = [Layout::contiguous((b, s, k)), Layout::contiguous(b * s), Layout::contiguous((n, k)), Layout::contiguous(n)];
        let [x, x_scale, w, w_scale] = &layouts;
        run(
            Fp8 { data: (&self.x.data, x), scale: (&self.x.scale, x_scale) },
            Fp8 { data: (&self.w.data, w), scale: (&self.w.scale, w_scale) },
        )
    }
}

fn check_fp8(gpu: &Gpu, report: &mut Report, shape: (usize, usize, usize, usize)) {
    let (b, s, _, n) = shape;
    let expected = |gpu: &Gpu, layer: &Fp8Layer| {
        let dequantised =
            |x: Fp8, count: usize, k: usize| -> Result<Tensor> { host(&gpu.tensor(fp8::dequantise(x, DType::F32)?, (count, k))) };
        layer.run(|x, w| dequantised(x, b * s, shape.2)?.matmul(&dequantised(w, n, shape.2)?.t()?))
    };
    for (name, with_bias, gelu) in [("", false, false), (" with bias", true, false), (" with bias and gelu", true, true)] {
        report.check(&format!("linear_fp8{name}"), shape, FP8, || {
            let (layer, bias) = (Fp8Layer::new(gpu, shape)?, (gpu.normal(n, DType::BF16) * 30.0)?);
            gpu.poison();
            let y = with([&bias], |[bias]| {
                layer.run(|x, w| gemm::linear_fp8(x, w, Epilogue { bias: with_bias.then_some(bias), gelu, ..Epilogue::default() }))
            })?;
            let expected = expected(gpu, &layer)?;
            let expected = if with_bias { expected.broadcast_add(&host(&bias)?)? } else { expected };
            error(&gpu.tensor(y, (b * s, n)), &if gelu { expected.gelu()? } else { expected })
        });
    }
    report.check("linear_fp8 that adds to a slice", shape, FP8, || {
        let (layer, y) = (Fp8Layer::new(gpu, shape)?, (gpu.normal((b, s + 3, 3 * n), DType::BF16) * 30.0)?);
        let slice = Layout::contiguous(y.shape()).narrow(1, 2, s)?.narrow(2, n, n)?;
        let epilogue = Epilogue { alpha: 0.5, add: true, ..Epilogue::default() };
        let sum = onto(gpu, &y, |storage, _| layer.run(|x, w| gemm::linear_fp8_into(x, w, epilogue, (storage, &slice))))?;
        let side = (expected(gpu, &layer)? * 0.5)?.reshape((b, s, n))?.pad_with_zeros(1, 2, 1)?.pad_with_zeros(2, n, n)?;
        error(&sum, &(exact(&y)? + exact(&side)?)?)
    });
}

/// (rows, in, out) of FLUX's layers at 1024², of its text alone, and of training at 512×768.
const LAYERS: [(usize, usize, usize); 12] = [
    (4608, 3072, 9216),
    (4608, 3072, 12288),
    (4608, 12288, 3072),
    (4608, 3072, 3072),
    (4096, 3072, 9216),
    (4096, 12288, 3072),
    (512, 3072, 9216),
    (512, 12288, 3072),
    (2048, 3072, 9216),
    (2048, 3072, 12288),
    (2048, 12288, 3072),
    (1536, 3072, 3072),
];

pub fn time(gpu: &Gpu, report: &mut Report) {
    for (m, k, n) in LAYERS {
        time_layer(gpu, report, m, k, n);
    }
    for rank in [4, 16] {
        time_adapter(gpu, report, rank);
    }
}

fn with_bias(bias: Arg, gelu: bool) -> Epilogue {
    Epilogue { bias: Some(bias), gelu, ..Epilogue::default() }
}

fn time_layer(gpu: &Gpu, report: &mut Report, m: usize, k: usize, n: usize) {
    let flop = 2.0 * (m * k * n) as f64;
    let inputs = || (gpu.normal((m, k), DType::BF16), gpu.normal((n, k), DType::BF16), gpu.normal(n, DType::BF16));
    for gelu in [false, true] {
        report.time(&format!("linear with bias, gelu {gelu}"), (m, k, n), || {
            let (x, w, bias) = inputs();
            let median = gpu.median(|_| with([&x, &w, &bias], |[x, w, bias]| gemm::linear(x, w, with_bias(bias, gelu))).map(drop))?;
            Ok((median, gpu.flop(flop)))
        });
        report.time(&format!("linear_fp8 with bias, gelu {gelu}"), (m, k, n), || {
            let (layer, bias) = (Fp8Layer::new(gpu, (1, m, k, n))?, gpu.normal(n, DType::BF16));
            let run = || with([&bias], |[bias]| layer.run(|x, w| gemm::linear_fp8(x, w, with_bias(bias, gelu))));
            Ok((gpu.median(|_| run().map(drop))?, gpu.flop(flop / 2.0)))
        });
    }
    report.time("linear that adds", (m, k, n), || {
        let (x, w, _) = inputs();
        let (mut y, layout) = (engine::cuda::uninitialised(gpu.cuda(), m * n, DType::BF16)?, Layout::contiguous((m, n)));
        let epilogue = Epilogue { add: true, ..Epilogue::default() };
        let median = gpu.median(|_| with([&x, &w], |[x, w]| gemm::linear_into(x, w, epilogue, (&mut y, &layout))))?;
        Ok((median, gpu.flop(flop)))
    });
    report.time("input_gradient", (m, k, n), || {
        let ((_, w, _), g) = (inputs(), gpu.normal((m, n), DType::BF16));
        Ok((gpu.median(|_| with([&g, &w], |[g, w]| gemm::input_gradient(g, w, 1.0)).map(drop))?, gpu.flop(flop)))
    });
}

fn time_adapter(gpu: &Gpu, report: &mut Report, rank: usize) {
    const M: usize = 2048;
    const C: usize = 3072;
    let inputs = || {
        let normal = |rows, columns| gpu.normal((rows, columns), DType::BF16);
        (normal(M, C), normal(rank, C), normal(M, rank), normal(C, rank))
    };
    report.time("adapter: x·Aᵀ", (M, C, rank), || {
        let (x, a, ..) = inputs();
        let median = gpu.median(|_| with([&x, &a], |[x, a]| gemm::linear(x, a, Epilogue::default())).map(drop))?;
        Ok((median, gpu.bytes(2 * M * C)))
    });
    report.time("adapter: y += h·Bᵀ", (M, rank, C), || {
        let (y, _, h, b) = inputs();
        let (mut y, layout) = (with([&y], |[y]| BackendStorage::try_clone(y.0, y.1))?, Layout::contiguous((M, C)));
        let epilogue = Epilogue { add: true, ..Epilogue::default() };
        let median = gpu.median(|_| with([&h, &b], |[h, b]| gemm::linear_into(h, b, epilogue, (&mut y, &layout))))?;
        Ok((median, gpu.bytes(4 * M * C)))
    });
    report.time("adapter: dA or dB", (M, rank, C), || {
        let (x, _, h, _) = inputs();
        let median = gpu.median(|_| with([&h, &x], |[h, x]| gemm::weight_gradient(h, x, 1.0)).map(drop))?;
        Ok((median, gpu.bytes(2 * M * C)))
    });
    report.time("adapter: dh = g·B", (M, C, rank), || {
        let (g, _, _, b) = inputs();
        let median = gpu.median(|_| with([&g, &b], |[g, b]| gemm::input_gradient(g, b, 1.0)).map(drop))?;
        Ok((median, gpu.bytes(2 * M * C)))
    });
}
