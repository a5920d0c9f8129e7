//! Group norm and upsampling.

use crate::gpu::{DTYPES, Gpu, error, exact, tolerance, with};
use crate::report::Report;
use candle_core::DType;
use engine::cuda::group_norm::group_norm;
use engine::cuda::upsample::upsample;
use engine::ops::plain;

/// (pictures, channels, height, width, groups): odd ones, and those of FLUX's decoder.
const SHAPES: [(usize, usize, usize, usize, usize); 6] =
    [(1, 8, 1, 1, 4), (3, 48, 5, 7, 16), (2, 6, 33, 31, 3), (1, 32, 64, 40, 2), (1, 512, 128, 128, 32), (1, 128, 512, 512, 32)];

pub fn check(gpu: &Gpu, report: &mut Report) {
    for (b, c, h, w, groups) in SHAPES {
        for dtype in DTYPES {
            for silu in [false, true] {
                report.check(&format!("group_norm, silu {silu}"), ((b, c, h, w), groups, dtype), tolerance(dtype).max(2e-5), || {
                    let x = ((gpu.normal((b, c, h, w), DType::F32) + 3.0)?).to_dtype(dtype)?;
                    let (weight, bias) = (gpu.normal(c, DType::F32), gpu.normal(c, DType::F32));
                    gpu.poison();
                    let y = with([&x, &weight, &bias], |[x, weight, bias]| group_norm(x, weight, bias, groups, 1e-6, silu))?;
                    let expected = plain::group_norm(&exact(&x)?, &exact(&weight)?, &exact(&bias)?, groups, 1e-6, silu)?;
                    error(&gpu.tensor(y, x.shape()), &expected)
                });
            }
            report.check("upsample", ((b, c, h, w), dtype), 0.0, || {
                let x = gpu.normal((b, c, h, w), dtype);
                gpu.poison();
                let y = gpu.tensor(with([&x], |[x]| upsample(x))?, (b, c, 2 * h, 2 * w));
                error(&y, &plain::upsample(&exact(&x)?)?)
            });
        }
    }
}

pub fn time(gpu: &Gpu, report: &mut Report) {
    for (c, side) in [(512, 128), (512, 256), (256, 512), (128, 1024)] {
        let elements = c * side * side;
        report.time("group_norm with silu", (1, c, side, side), || {
            let x = gpu.normal((1, c, side, side), DType::BF16);
            let (weight, bias) = (gpu.normal(c, DType::F32), gpu.normal(c, DType::F32));
            let run = || with([&x, &weight, &bias], |[x, weight, bias]| group_norm(x, weight, bias, 32, 1e-6, true));
            Ok((gpu.median(|_| run().map(drop))?, gpu.bytes(6 * elements)))
        });
        if side < 1024 {
            report.time("upsample", (1, c, side, side), || {
                let x = gpu.normal((1, c, side, side), DType::BF16);
                Ok((gpu.median(|_| with([&x], |[x]| upsample(x)).map(drop))?, gpu.bytes(10 * elements)))
            });
        }
    }
}
