//! What lies between the VAE's convolutions: group norm and sums of feature maps, given in either order in memory.

use crate::gpu::{DTYPES, Gpu, error, exact, tolerance, worst};
use crate::report::Report;
use candle_core::{DType, Error, Result, Tensor};
use engine::ops::{self, plain};

/// (pictures, channels, height, width, groups): odd ones, and those of FLUX's decoder.
const SHAPES: [(usize, usize, usize, usize, usize); 12] = [
    (1, 8, 1, 1, 4),
    (2, 3, 5, 17, 3),
    (1, 3, 1, 64, 1),
    (3, 48, 5, 7, 16),
    (2, 6, 33, 31, 3),
    (2, 16, 17, 17, 16),
    (1, 96, 64, 17, 32),
    (1, 32, 64, 40, 2),
    (1, 2048, 5, 1, 32),
    (2, 512, 17, 64, 32),
    (1, 512, 128, 128, 32),
    (1, 128, 512, 512, 32),
];

pub fn check(gpu: &Gpu, report: &mut Report) {
    for (b, c, h, w, groups) in SHAPES {
        for dtype in DTYPES {
            for silu in [false, true] {
                report.check(&format!("group_norm, silu {silu}"), ((b, c, h, w), groups, dtype), tolerance(dtype).max(2e-5), || {
                    let x = ((gpu.normal((b, c, h, w), DType::F32) + 3.0)?).to_dtype(dtype)?;
                    let (weight, bias) = (gpu.normal(c, DType::F32), gpu.normal(c, DType::F32));
                    let expected = plain::group_norm(&exact(&x)?, &exact(&weight)?, &exact(&bias)?, groups, 1e-6, silu)?;
                    in_both_orders(gpu, &x, &expected, |x| ops::group_norm(x, &weight, &bias, groups, 1e-6, silu))
                });
            }
            report.check("sum of maps", ((b, c, h, w), dtype), tolerance(dtype), || {
                let (x, y) = (gpu.normal((b, c, h, w), dtype), gpu.normal((b, c, h, w), dtype));
                in_both_orders(gpu, &x, &(exact(&x)? + exact(&y)?)?, |x| ops::add_maps(x, &y))
            });
        }
    }
    report.check("a mean far from zero", (1, 64, 128, 128), 1e-4, || {
        let x = (gpu.normal((1, 64, 128, 128), DType::F32) + 300.0)?;
        let (weight, bias) = (gpu.normal(64, DType::F32), gpu.normal(64, DType::F32));
        let expected = plain::group_norm(&exact(&x)?, &exact(&weight)?, &exact(&bias)?, 32, 1e-6, false)?;
        in_both_orders(gpu, &x, &expected, |x| ops::group_norm(x, &weight, &bias, 32, 1e-6, false))
    });
}

/// The worse error of two: given [B, C, H, W] as it is, and as it lies after another operation. The result must lie channels-last.
fn in_both_orders(gpu: &Gpu, x: &Tensor, expected: &Tensor, run: impl Fn(&Tensor) -> engine::Result<Tensor>) -> Result<f64> {
    let last = x.permute((0, 2, 3, 1))?.contiguous()?.permute((0, 3, 1, 2))?;
    let compare = |x: &Tensor| {
        gpu.poison();
        let y = run(x).map_err(Error::wrap)?;
        if !y.permute((0, 2, 3, 1))?.is_contiguous() {
            candle_core::bail!("the result lies in strides {:?}", y.stride());
        }
        error(&y.contiguous()?, expected)
    };
    Ok(worst([compare(x)?, compare(&last)?]))
}

pub fn time(gpu: &Gpu, report: &mut Report) {
    for (c, side) in [(512, 128), (512, 256), (512, 512), (256, 512), (256, 1024), (128, 1024)] {
        let elements = c * side * side;
        let maps = || gpu.normal((1, side, side, c), DType::BF16).permute((0, 3, 1, 2));
        report.time("group_norm with silu", (1, c, side, side), || {
            let (x, weight, bias) = (maps()?, gpu.normal(c, DType::F32), gpu.normal(c, DType::F32));
            let run = || ops::group_norm(&x, &weight, &bias, 32, 1e-6, true).map(drop).map_err(Error::wrap);
            Ok((gpu.median(|_| run())?, gpu.bytes(6 * elements)))
        });
    }
}
