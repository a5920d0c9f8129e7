//! Whether candle's convolution, by cuDNN, serves the VAE in bf16.

use crate::gpu::{DTYPES, Gpu, error};
use crate::report::Report;
use candle_core::{DType, Device};

pub fn check(gpu: &Gpu, report: &mut Report) {
    for (b, c, h, w, out, k, stride) in
        [(2, 5, 9, 7, 3, 3, 1), (1, 16, 33, 31, 24, 3, 1), (1, 32, 64, 64, 48, 1, 1), (1, 64, 128, 128, 64, 3, 2)]
    {
        for dtype in DTYPES {
            // cuDNN may use tf32 for f32.
            let tolerance = if dtype == DType::BF16 { 4e-3 } else { 1e-3 };
            report.check("candle's conv2d", ((b, c, h, w), (out, k, stride), dtype), tolerance, || {
                let (x, weight) = (gpu.normal((b, c, h, w), dtype), gpu.normal((out, c, k, k), dtype));
                gpu.poison();
                let y = x.conv2d(&weight, k / 2, stride, 1, 1)?;
                let host = |x: &candle_core::Tensor| x.to_device(&Device::Cpu)?.to_dtype(DType::F32);
                error(&y, &host(&x)?.conv2d(&host(&weight)?, k / 2, stride, 1, 1)?)
            });
        }
    }
}

pub fn time(gpu: &Gpu, report: &mut Report) {
    for (c, out, side) in [(512, 512, 128), (512, 512, 256), (512, 256, 512), (256, 256, 512), (256, 128, 1024), (128, 128, 1024)] {
        for dtype in DTYPES {
            report.time("candle's conv2d 3×3", ((c, out, side), dtype), || {
                let (x, weight) = (gpu.normal((1, c, side, side), dtype), gpu.normal((out, c, 3, 3), dtype));
                let flop = 2.0 * (9 * c * out * side * side) as f64;
                Ok((gpu.median(|_| x.conv2d(&weight, 1, 1, 1, 1).map(drop))?, gpu.flop(flop)))
            });
        }
    }
}
