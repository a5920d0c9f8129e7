//! Convolution by cuDNN over channels-last feature maps: against the plain one, then every layer of FLUX's decoder at 1024×1024 pixels
//! beside candle's own.

use crate::gpu::{DTYPES, Gpu, error, worst};
use crate::report::Report;
use candle_core::{DType, Device, Error, Result, Tensor};
use engine::ops::{self, ConvWeight, EnlargingWeight, plain};
use std::time::Instant;

/// (pictures, channels, height, width), (outputs, kernel, stride, zeros before and after)
type Shape = ((usize, usize, usize, usize), (usize, usize, usize, (usize, usize)));

const SHAPES: [Shape; 13] = [
    ((1, 3, 1, 1), (16, 3, 1, (1, 1))),
    ((2, 3, 17, 5), (32, 3, 1, (1, 1))),
    ((1, 16, 5, 17), (96, 1, 1, (0, 0))),
    ((3, 32, 17, 64), (3, 3, 1, (1, 1))),
    ((1, 32, 1, 64), (96, 3, 1, (1, 1))),
    ((1, 96, 64, 17), (128, 3, 2, (0, 1))),
    ((2, 32, 5, 17), (32, 3, 2, (0, 1))),
    ((1, 128, 64, 64), (128, 3, 2, (0, 1))),
    ((1, 128, 17, 1), (512, 1, 1, (0, 0))),
    ((1, 128, 64, 64), (3, 3, 1, (1, 1))),
    ((1, 512, 5, 64), (512, 3, 1, (1, 1))),
    ((1, 512, 17, 17), (32, 3, 1, (1, 1))),
    ((2, 64, 64, 64), (64, 3, 1, (1, 1))),
];
/// (pictures, channels, height, width), outputs; the last are no multiple of eight.
const ENLARGED: [((usize, usize, usize, usize), usize); 5] =
    [((1, 8, 1, 1), 8), ((2, 32, 5, 17), 96), ((1, 128, 17, 1), 128), ((1, 512, 32, 32), 512), ((2, 16, 5, 3), 12)];
/// A bf16 result of an f32 sum.
const TOLERANCE: f64 = 4e-3;

pub fn check(gpu: &Gpu, report: &mut Report) {
    for shape in SHAPES {
        report.check("conv2d", shape, TOLERANCE, || compare(gpu, shape, false));
        let (_, (_, _, stride, _)) = shape;
        if stride == 1 {
            report.check("conv2d plus a residual", shape, TOLERANCE, || compare(gpu, shape, true));
        }
    }
    for size in ENLARGED {
        for dtype in DTYPES {
            report.check("enlarging conv2d", (size, dtype), if dtype == DType::BF16 { TOLERANCE } else { 1e-3 }, || {
                enlarge(gpu, size, dtype)
            });
        }
    }
    report.check("conv2d in f32, candle's", (1, 32, 17, 64), 1e-3, || {
        let (x, weight, bias) =
            (gpu.normal((1, 32, 17, 64), DType::F32), gpu.normal((48, 32, 3, 3), DType::F32), gpu.normal(48, DType::F32));
        let kernel = ConvWeight::new(&weight, &bias).map_err(Error::wrap)?;
        let y = ops::conv2d(&x, &kernel, 1, (1, 1)).map_err(Error::wrap)?;
        error(&y, &plain::conv2d(&host(&x)?, &host(&weight)?, &host(&bias)?, 1, (1, 1))?)
    });
    report.check("other channels are refused by name", (), 0.0, || {
        let kernel = kernel(gpu, 16, 32, 3)?;
        let refused = ops::conv2d(&gpu.normal((1, 24, 5, 5), DType::BF16), &kernel, 1, (1, 1));
        Ok(if refused.is_err_and(|error| error.to_string().contains("16 channels")) { 0.0 } else { 1.0 })
    });
}

/// The worse error of two runs: the first, which chooses a plan, and one over memory of NaN.
fn compare(gpu: &Gpu, ((b, c, h, w), (out, k, stride, padding)): Shape, adds: bool) -> Result<f64> {
    let (x, weight, bias) = (gpu.normal((b, c, h, w), DType::BF16), gpu.normal((out, c, k, k), DType::BF16), gpu.normal(out, DType::BF16));
    let kernel = ConvWeight::new(&weight, &bias).map_err(Error::wrap)?;
    let mut expected = plain::conv2d(&host(&x)?, &host(&weight)?, &host(&bias)?, stride, padding)?;
    let residual = gpu.normal(expected.shape(), DType::BF16);
    if adds {
        expected = (expected + host(&residual)?)?;
    }
    let run = || {
        gpu.poison();
        let y = match adds {
            true => ops::add_conv2d(&residual, &x, &kernel, padding.0),
            false => ops::conv2d(&x, &kernel, stride, padding),
        };
        error(&y.map_err(Error::wrap)?.contiguous()?, &expected)
    };
    Ok(worst([run()?, run()?]))
}

fn enlarge(gpu: &Gpu, ((b, c, h, w), out): ((usize, usize, usize, usize), usize), dtype: DType) -> Result<f64> {
    let (x, weight, bias) = (gpu.normal((b, c, h, w), dtype), gpu.normal((out, c, 3, 3), dtype), gpu.normal(out, dtype));
    let kernel = EnlargingWeight::new(&weight, &bias).map_err(Error::wrap)?;
    let expected = plain::conv2d(&plain::upsample(&host(&x)?)?, &host(&weight)?, &host(&bias)?, 1, (1, 1))?;
    let run = || {
        gpu.poison();
        error(&ops::enlarging_conv2d(&x, &kernel).map_err(Error::wrap)?.contiguous()?, &expected)
    };
    Ok(worst([run()?, run()?]))
}

fn host(x: &Tensor) -> Result<Tensor> {
    x.to_device(&Device::Cpu)?.to_dtype(DType::F32)
}

fn kernel(gpu: &Gpu, inputs: usize, outputs: usize, k: usize) -> Result<ConvWeight> {
    ConvWeight::new(&gpu.normal((outputs, inputs, k, k), DType::BF16), &gpu.normal(outputs, DType::BF16)).map_err(Error::wrap)
}

/// A layer of FLUX's decoder.
#[derive(Clone, Copy, Debug)]
struct Layer {
    kind: Kind,
    inputs: usize,
    outputs: usize,
    /// Of what it writes.
    side: usize,
    /// How many of them the decoder has.
    count: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pointwise,
    Plain,
    /// To a residual.
    Added,
    Enlarging,
}

use Kind::{Added, Enlarging, Plain, Pointwise};

const fn layer(kind: Kind, inputs: usize, outputs: usize, side: usize, count: usize) -> Layer {
    Layer { kind, inputs, outputs, side, count }
}

/// In the order in which they are first met.
const LAYERS: [Layer; 17] = [
    layer(Plain, 16, 512, 128, 1),
    layer(Plain, 512, 512, 128, 5),
    layer(Added, 512, 512, 128, 5),
    layer(Enlarging, 512, 512, 256, 1),
    layer(Plain, 512, 512, 256, 3),
    layer(Added, 512, 512, 256, 3),
    layer(Enlarging, 512, 512, 512, 1),
    layer(Plain, 512, 256, 512, 1),
    layer(Pointwise, 512, 256, 512, 1),
    layer(Added, 256, 256, 512, 3),
    layer(Plain, 256, 256, 512, 2),
    layer(Enlarging, 256, 256, 1024, 1),
    layer(Plain, 256, 128, 1024, 1),
    layer(Pointwise, 256, 128, 1024, 1),
    layer(Added, 128, 128, 1024, 3),
    layer(Plain, 128, 128, 1024, 2),
    layer(Plain, 128, 3, 1024, 1),
];

impl Layer {
    fn kernel(&self) -> usize {
        if self.kind == Pointwise { 1 } else { 3 }
    }

    /// At the least: enlarging needs 4 of 9 taps.
    fn flop(&self) -> f64 {
        let taps = if self.kind == Enlarging { 4 } else { self.kernel() * self.kernel() };
        2.0 * (taps * self.inputs * self.outputs * self.side * self.side) as f64
    }

    fn name(&self) -> String {
        format!("{:?}, ×{}", self.kind, self.count)
    }

    fn size(&self) -> (usize, usize, usize) {
        (self.inputs, self.outputs, self.side)
    }

    /// Microseconds of the first run and of a usual one.
    fn native(&self, gpu: &Gpu) -> Result<(f64, f64)> {
        let Self { kind, inputs, outputs, side, .. } = *self;
        let k = self.kernel();
        let maps = |side: usize, channels: usize| gpu.normal((1, side, side, channels), DType::BF16).permute((0, 3, 1, 2));
        let x = maps(if kind == Enlarging { side / 2 } else { side }, inputs)?;
        let (weight, bias) = (gpu.normal((outputs, inputs, k, k), DType::BF16), gpu.normal(outputs, DType::BF16));
        match kind {
            Enlarging => {
                let weight = EnlargingWeight::new(&weight, &bias).map_err(Error::wrap)?;
                first_and_median(gpu, || ops::enlarging_conv2d(&x, &weight))
            }
            Added => {
                let (weight, residual) = (ConvWeight::new(&weight, &bias).map_err(Error::wrap)?, maps(side, outputs)?);
                first_and_median(gpu, || ops::add_conv2d(&residual, &x, &weight, k / 2))
            }
            Plain | Pointwise => {
                let weight = ConvWeight::new(&weight, &bias).map_err(Error::wrap)?;
                first_and_median(gpu, || ops::conv2d(&x, &weight, 1, (k / 2, k / 2)))
            }
        }
    }

    /// Microseconds of candle's convolution of what may have been enlarged before, without bias.
    fn candles(&self, gpu: &Gpu) -> Result<f64> {
        let Self { inputs, outputs, side, .. } = *self;
        let k = self.kernel();
        let (x, weight) = (gpu.normal((1, inputs, side, side), DType::BF16), gpu.normal((outputs, inputs, k, k), DType::BF16));
        gpu.median(|_| x.conv2d(&weight, k / 2, 1, 1, 1).map(drop))
    }
}

fn first_and_median(gpu: &Gpu, run: impl Fn() -> engine::Result<Tensor>) -> Result<(f64, f64)> {
    gpu.device.synchronize()?;
    let start = Instant::now();
    run().map_err(Error::wrap)?;
    gpu.device.synchronize()?;
    Ok((start.elapsed().as_secs_f64() * 1e6, gpu.median(|_| run().map(drop).map_err(Error::wrap))?))
}

/// Dense bf16 of an H100 SXM, FLOP/s.
const PEAK: f64 = 989e12;

pub fn time(gpu: &Gpu, report: &mut Report) {
    let (mut ours, mut theirs, mut first_runs, mut floor) = (0.0, 0.0, 0.0, 0.0);
    for layer in LAYERS {
        let least = layer.flop() / PEAK * 1e6;
        floor += layer.count as f64 * least;
        report.time(&format!("conv2d {}", layer.name()), layer.size(), || {
            let (first, median) = layer.native(gpu)?;
            println!("     {:.0} TFLOP/s; {:.0} ms on first use", layer.flop() / median * 1e-6, first * 1e-3);
            first_runs += first;
            ours += layer.count as f64 * median;
            Ok((median, least))
        });
        report.time(&format!("candle's conv2d {}", layer.name()), layer.size(), || {
            let median = layer.candles(gpu)?;
            theirs += layer.count as f64 * median;
            Ok((median, least))
        });
    }
    println!(
        "     all convolutions of a decoder at 1024×1024: {:.1} ms, candle's {:.1} ms, floor {:.1} ms; choosing plans took {:.0} ms",
        ours * 1e-3,
        theirs * 1e-3,
        floor * 1e-3,
        first_runs * 1e-3
    );
}
