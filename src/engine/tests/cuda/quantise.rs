//! NF4 and fp8.

use crate::gpu::{DTYPES, Gpu, error, exact, with, worst};
use crate::report::Report;
use candle_core::{D, DType, Device, Layout, Result, Tensor};
use engine::cuda::fp8::{self, Fp8};
use engine::cuda::nf4::{self, Absmax, OwnedAbsmax};

/// Half a step of e4m3's three bits, and some rounding.
const FP8_STEP: f64 = 1.001 / 16.0;

pub fn check(gpu: &Gpu, report: &mut Report) {
    for shape in [(1, 8), (7, 24), (5, 33), (129, 250), (3, 12288), (64, 15360), (3072, 3072)] {
        for dtype in DTYPES {
            check_fp8(gpu, report, shape, dtype);
        }
    }
    for shape in [(1, 64), (3, 128), (48, 1024), (250, 448), (3072, 3072)] {
        for dtype in DTYPES {
            for double in [false, true] {
                check_nf4(gpu, report, shape, dtype, double);
            }
        }
    }
}

/// Rows of very different size, and one of zeros.
fn rows(gpu: &Gpu, (rows, width): (usize, usize), dtype: DType) -> Result<Tensor> {
    let sizes = gpu.normal((rows, 1), DType::F32).exp()?;
    let sizes = Tensor::cat(&[sizes.narrow(0, 0, rows - 1)?, sizes.narrow(0, 0, 1)?.zeros_like()?], 0)?;
    let x = gpu.normal((rows, width), DType::F32);
    if rows == 1 { x.to_dtype(dtype) } else { x.broadcast_mul(&sizes)?.to_dtype(dtype) }
}

fn check_fp8(gpu: &Gpu, report: &mut Report, shape: (usize, usize), dtype: DType) {
    report.check("fp8 quantise and dequantise", (shape, dtype), FP8_STEP, || {
        let x = rows(gpu, shape, dtype)?;
        gpu.poison();
        let quantised = with([&x], |[x]| fp8::quantise(x))?;
        let (data, scale) = (gpu.tensor(quantised.data, shape), gpu.tensor(quantised.scale, (shape.0, 1)));
        let back = with([&data, &scale], |[data, scale]| fp8::dequantise(Fp8 { data, scale }, DType::F32))?;
        let (back, host) = (exact(&gpu.tensor(back, shape))?, exact(&x)?);
        let most = (host.abs()?.max_keepdim(D::Minus1)? / 448.0)?;
        let expected_scale = most.eq(0f64)?.where_cond(&most.ones_like()?, &most)?;
        // Half the smallest step, 2⁻⁹, is allowed to whatever is small; to the rest half a step of its own.
        let beyond = ((&back - &host)?.abs()?.broadcast_sub(&(&expected_scale / 1024.0)?)?.relu()? / host.abs()?.maximum(1e-30)?)?;
        let of_values = beyond.flatten_all()?.max(0)?.to_scalar::<f64>()?;
        Ok(worst([error(&scale, &expected_scale)? * 1e3, of_values]))
    });
}

/// Quantiles of a normal distribution (arXiv 2305.14314, appendix E).
const NF4: [f32; 16] = [
    -1.0,
    -0.6961928,
    -0.52507305,
    -0.3949175,
    -0.28444138,
    -0.18477343,
    -0.091050036,
    0.0,
    0.0795803,
    0.1609302,
    0.2461123,
    0.33791524,
    0.44070983,
    0.562617,
    0.72295684,
    1.0,
];

/// What NF4 makes of a block, with the largest magnitude as it is.
fn through_nf4(block: &[f32]) -> Vec<f32> {
    let most = block.iter().fold(0f32, |most, x| most.max(x.abs()));
    let nearest = |x: f32| NF4.into_iter().min_by(|a, b| (a - x).abs().total_cmp(&(b - x).abs())).expect("16 values");
    block.iter().map(|x| if most > 0.0 { nearest(x / most) * most } else { 0.0 }).collect()
}

fn check_nf4(gpu: &Gpu, report: &mut Report, shape: (usize, usize), dtype: DType, double: bool) {
    // Eight bits for the largest magnitude of a block: some 1 % of it.
    let tolerance = if double { 2e-2 } else { 3e-3 };
    report.check(&format!("nf4 quantise and dequantise, double {double}"), (shape, dtype), tolerance, || {
        let w = rows(gpu, shape, dtype)?;
        gpu.poison();
        let (codes, absmax) = with([&w], |[w]| nf4::quantise(w, double))?;
        let back = dequantised(&codes, &absmax, shape.0 * shape.1, dtype)?;
        let host = w.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let expected: Vec<f32> = host.chunks(nf4::BLOCK).flat_map(through_nf4).collect();
        error(&gpu.tensor(back, shape), &Tensor::from_vec(expected, shape, &Device::Cpu)?)
    });
    if !double {
        report.check("nf4 codes, the first in the high half", (shape, dtype), 0.0, || {
            let w = rows(gpu, shape, dtype)?;
            let (codes, _) = with([&w], |[w]| nf4::quantise(w, false))?;
            let codes = gpu.tensor(codes, shape.0 * shape.1 / 2).to_vec1::<u8>()?;
            let host = w.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            // Where a value is its block's largest, its code is 15 or 0.
            let wrong = host.chunks(nf4::BLOCK).enumerate().filter(|(block, values)| {
                let (at, most) = values.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).expect("64 values");
                let byte = codes[(block * nf4::BLOCK + at) / 2];
                let code = if at % 2 == 0 { byte >> 4 } else { byte & 15 };
                *most != 0.0 && code != if *most > 0.0 { 15 } else { 0 }
            });
            Ok(wrong.count() as f64)
        });
    }
}

fn dequantised(codes: &candle_core::CudaStorage, absmax: &OwnedAbsmax, elements: usize, dtype: DType) -> Result<candle_core::CudaStorage> {
    let blocks = elements / nf4::BLOCK;
    let layouts = [elements / 2, blocks, blocks.div_ceil(nf4::ABSMAX_BLOCK), 1].map(Layout::contiguous);
    let absmax = match absmax {
        OwnedAbsmax::Plain(absmax) => Absmax::Plain((absmax, &layouts[1])),
        OwnedAbsmax::Double { codes, scale, offset } => {
            Absmax::Double { codes: (codes, &layouts[1]), scale: (scale, &layouts[2]), offset: (offset, &layouts[3]) }
        }
    };
    nf4::dequantise((codes, &layouts[0]), absmax, dtype)
}

pub fn time(gpu: &Gpu, report: &mut Report) {
    for shape in [(3072, 3072), (12288, 3072), (9216, 3072)] {
        let elements = shape.0 * shape.1;
        for double in [false, true] {
            report.time(&format!("nf4 dequantise to bf16, double {double}"), shape, || {
                let w = gpu.normal(shape, DType::BF16);
                let sets = (0..4).map(|_| with([&w], |[w]| nf4::quantise(w, double))).collect::<Result<Vec<_>>>()?;
                let run = |(codes, absmax): &(_, _)| dequantised(codes, absmax, elements, DType::BF16).map(drop);
                let bytes = elements * 5 / 2 + elements / nf4::BLOCK * if double { 1 } else { 4 };
                Ok((gpu.median(|number| run(&sets[number % 4]))?, gpu.bytes(bytes)))
            });
        }
        report.time("nf4 quantise, double", shape, || {
            let w = gpu.normal(shape, DType::BF16);
            Ok((gpu.median(|_| with([&w], |[w]| nf4::quantise(w, true)).map(drop))?, gpu.bytes(elements * 5 / 2)))
        });
    }
    for shape in [(4608, 3072), (4608, 12288)] {
        report.time("fp8 quantise", shape, || {
            let sets: Vec<Tensor> = (0..4).map(|_| gpu.normal(shape, DType::BF16)).collect();
            let median = gpu.median(|number| with([&sets[number % 4]], |[x]| fp8::quantise(x)).map(drop))?;
            Ok((median, gpu.bytes(3 * shape.0 * shape.1)))
        });
    }
}
