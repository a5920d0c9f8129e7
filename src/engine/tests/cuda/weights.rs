//! `ops::Weight` in every precision: the GPU's products against the CPU's, which multiplies with the values that come back from it.

use crate::gpu::{Gpu, error, exact, gradients, tolerance, worst};
use crate::report::Report;
use candle_core::{D, DType, Device, Error, Result, Tensor};
use engine::Precision;
use engine::ops::{self, Activation, Weight, plain};
use engine::quant::Fp8Rows;

/// Rows of two pictures, in and out features. The last are not whole in fp8 or in NF4's blocks: they stay bf16.
const SHAPES: [(usize, usize, usize); 4] = [(1, 64, 128), (33, 256, 768), (129, 1024, 320), (7, 72, 50)];

pub fn check(gpu: &Gpu, report: &mut Report) {
    for shape in SHAPES {
        for precision in Precision::ALL {
            let case = Case::new(gpu, shape, precision);
            for dtype in [DType::F32, DType::BF16] {
                report.check(&format!("a weight in {precision}"), (shape, dtype), case.tolerance(dtype), || case.forward(gpu, dtype));
                report.check(&format!("dX in {precision}"), (shape, dtype), case.gradient_tolerance(dtype), || case.backward(gpu, dtype));
            }
        }
        report.check("a weight on the host", shape, tolerance(DType::BF16), || {
            let case = Case::new(gpu, shape, Precision::Bf16);
            let weight = Weight::on_host(&case.weight, &gpu.device).map_err(Error::wrap)?;
            case.compare(gpu, DType::BF16, &weight)
        });
        report.check("in two parts, into some tokens and columns", shape, 1e-5, || in_parts(gpu, shape));
    }
}

/// What a form costs beside the product alone.
pub fn time(gpu: &Gpu, report: &mut Report) {
    let (tokens, width, wide) = (4608, 3072, 12288);
    for precision in [Precision::Bf16, Precision::Fp8, Precision::Nf4] {
        let weight = gpu.normal((wide, width), DType::BF16);
        let weight = Weight::new(&weight, precision).expect("a weight");
        let (x, g) = (Activation::from(gpu.normal((1, tokens, width), DType::BF16)), gpu.normal((1, tokens, wide), DType::BF16));
        let floor = gpu.flop(2.0 * (tokens * width * wide) as f64);
        report.time(&format!("a weight in {precision}"), (tokens, width, wide), || {
            Ok((gpu.median(|_| ops::linear(&x, &weight, None).map(drop).map_err(Error::wrap))?, floor))
        });
        report.time(&format!("dX in {precision}"), (tokens, width, wide), || {
            Ok((gpu.median(|_| ops::linear_gradient(&g, &weight, None).map(drop).map_err(Error::wrap))?, floor))
        });
    }
}

struct Case {
    shape: (usize, usize, usize),
    precision: Precision,
    /// On the CPU, bf16 values, as a checkpoint has them.
    weight: Tensor,
    bias: Tensor,
    /// [2, rows, in]
    x: Tensor,
    /// [2, rows, out]
    g: Tensor,
}

impl Case {
    fn new(gpu: &Gpu, shape @ (rows, inputs, outputs): (usize, usize, usize), precision: Precision) -> Self {
        let host = |shape: &[usize]| gpu.normal(shape, DType::BF16).to_device(&Device::Cpu).expect("a copy");
        let (weight, bias) = (host(&[outputs, inputs]), host(&[outputs]));
        Self { shape, precision, weight, bias, x: host(&[2, rows, inputs]), g: host(&[2, rows, outputs]) }
    }

    fn is_fp8(&self) -> bool {
        self.precision == Precision::Fp8 && self.shape.1.is_multiple_of(16) && self.shape.2.is_multiple_of(16)
    }

    fn tolerance(&self, dtype: DType) -> f64 {
        // A weight in f32 multiplies f32; bf16 multiplies bf16; fp8 leaves bf16.
        let exact = dtype == DType::F32 && matches!(self.precision, Precision::F32 | Precision::Nf4) && !self.is_fp8();
        tolerance(if exact && self.quantised_or_f32() { DType::F32 } else { DType::BF16 })
    }

    fn gradient_tolerance(&self, dtype: DType) -> f64 {
        tolerance(if dtype == DType::F32 && self.quantised_or_f32() { DType::F32 } else { DType::BF16 })
    }

    /// Whether the weight can be made in f32.
    fn quantised_or_f32(&self) -> bool {
        let (_, inputs, outputs) = self.shape;
        match self.precision {
            Precision::F32 => true,
            Precision::Bf16 => false,
            Precision::Fp8 => self.is_fp8(),
            Precision::Nf4 => (inputs * outputs).is_multiple_of(64),
        }
    }

    fn forward(&self, gpu: &Gpu, dtype: DType) -> Result<f64> {
        let weight = Weight::new(&self.weight.to_device(&gpu.device)?, self.precision).map_err(Error::wrap)?;
        self.compare(gpu, dtype, &weight)
    }

    fn compare(&self, gpu: &Gpu, dtype: DType, weight: &Weight) -> Result<f64> {
        gpu.poison();
        let place = |x: &Tensor| x.to_device(&gpu.device)?.to_dtype(dtype);
        let ours = ops::linear(&Activation::from(place(&self.x)?), weight, Some(&place(&self.bias)?)).map_err(Error::wrap)?;
        if ours.dtype() != dtype && !self.is_fp8() {
            candle_core::bail!("{:?} became {:?}", dtype, ours.dtype());
        }
        let x = if self.is_fp8() { through_fp8(&self.x)? } else { self.x.to_dtype(DType::F32)? };
        error(&ours, &(self.product(&x)?.broadcast_add(&self.bias.to_dtype(DType::F32)?)?))
    }

    /// On the CPU.
    fn product(&self, x: &Tensor) -> Result<Tensor> {
        let weight = Weight::new(&self.weight, self.precision).map_err(Error::wrap)?;
        ops::linear(&x.into(), &weight, None).map_err(Error::wrap)
    }

    fn backward(&self, gpu: &Gpu, dtype: DType) -> Result<f64> {
        let host = Weight::new(&self.weight, self.precision).map_err(Error::wrap)?;
        let weight = Weight::new(&self.weight.to_device(&gpu.device)?, self.precision).map_err(Error::wrap)?;
        let g = self.g.to_device(&gpu.device)?.to_dtype(dtype)?;
        let expected = ops::linear_gradient(&self.g.to_dtype(DType::F32)?, &host, None).map_err(Error::wrap)?;
        gpu.poison();
        let ours = ops::linear_gradient(&g, &weight, None).map_err(Error::wrap)?;
        let start = ours.ones_like()?;
        let sum = ops::linear_gradient(&g, &weight, Some(start)).map_err(Error::wrap)?;
        Ok(worst([error(&ours, &expected)?, error(&sum, &(expected + 1.0)?)?]))
    }
}

/// What fp8 with a scale for each row makes of activations.
fn through_fp8(x: &Tensor) -> Result<Tensor> {
    let values = x.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    Tensor::from_vec(Fp8Rows::quantise(&values, x.dim(D::Minus1)?).dequantise(), x.shape(), &Device::Cpu)
}

/// LoRA and products in parts, with their gradients, in f32 against plain operations.
fn in_parts(gpu: &Gpu, (rows, inputs, outputs): (usize, usize, usize)) -> Result<f64> {
    const RANK: usize = 8;
    let (half, scale) = (inputs / 2 / 8 * 8, 0.7);
    let normal = |shape: &[usize]| gpu.normal(shape, DType::F32);
    let (x, a, b) = (normal(&[2, rows, inputs]), normal(&[RANK, inputs]), normal(&[outputs, RANK]));
    let (joint, g) = (normal(&[2, rows + 3, outputs + 16]), normal(&[2, rows, outputs]));
    let part = joint.narrow(1, 3, rows)?.narrow(2, 16, outputs)?;
    let before = part.contiguous()?;
    let columns = |x: &Tensor| Ok::<_, Error>([x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, inputs - half)?]);
    let ([x0, x1], [a0, a1]) = (columns(&x)?, columns(&a)?);
    let run = || -> engine::Result<[Tensor; 3]> {
        let h = ops::lora_down(&x0, &a0)?;
        ops::add_lora_down(&h, &x1, &a1)?;
        ops::add_lora_up(&part, &h, &b, scale)?;
        let dh = ops::to_be_written(h.shape(), &h)?;
        ops::lora_up_gradient_into(&dh, &g, &b, scale)?;
        let [dx, da, db] = [&x, &a, &b].map(Tensor::zeros_like);
        let (dx, da, db) = (dx?, da?, db?);
        ops::add_matrix_gradient(&db, &g, &h, scale)?;
        for ((dx, x), (da, a)) in columns(&dx)?.iter().zip([&x0, &x1]).zip(columns(&da)?.iter().zip([&a0, &a1])) {
            ops::add_lora_down_gradient(dx, &dh, a)?;
            ops::add_matrix_gradient(da, &dh, x, 1.0)?;
        }
        Ok([dx, da, db])
    };
    let ours = run().map_err(Error::wrap)?;
    let expected = plain::add_lora(&exact(&before)?, &exact(&x)?, &exact(&a)?, &exact(&b)?, scale)?;
    let zeros = before.zeros_like()?;
    let theirs = gradients([&x, &a, &b], &g, |x| plain::add_lora(&exact(&zeros)?, &x[0], &x[1], &x[2], scale))?;
    let of_gradients = ours.iter().zip(&theirs).map(|(ours, theirs)| error(ours, theirs)).collect::<Result<Vec<_>>>()?;
    Ok(worst(of_gradients.into_iter().chain([error(&part.contiguous()?, &expected)?])))
}
