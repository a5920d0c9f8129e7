//! The GPU under test: random tensors on it, its functions over tensors, its ceilings and its clock.

use candle_core::cuda_backend::cudarc::driver::sys::CUevent_flags;
use candle_core::{CudaDevice, CudaStorage, D, DType, Device, Error, Result, Shape, Storage, Tensor, Var};
use engine::cuda::{self, Arg};
use std::cell::OnceCell;
use std::time::{SystemTime, UNIX_EPOCH};

pub const DTYPES: [DType; 2] = [DType::F32, DType::BF16];

pub struct Gpu {
    pub device: Device,
    /// (bytes a second of a copy, bf16 FLOP a second of a product), measured when first asked for.
    ceilings: OnceCell<(f64, f64)>,
}

impl Gpu {
    pub fn open() -> Self {
        let device = cuda::open(0).expect("a GPU");
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").subsec_nanos();
        device.set_seed(seed.into()).expect("a seed");
        println!("     {:?}, seed {seed}", cuda::describe(device.as_cuda_device().expect("a GPU")).expect("a description"));
        Self { device, ceilings: OnceCell::new() }
    }

    pub fn cuda(&self) -> &CudaDevice {
        self.device.as_cuda_device().expect("opened as a GPU")
    }

    /// Normal numbers.
    pub fn normal(&self, shape: impl Into<Shape>, dtype: DType) -> Tensor {
        let shape = shape.into();
        // curand draws pairs.
        let count = shape.elem_count().next_multiple_of(2);
        let flat = Tensor::randn(0f32, 1.0, count, &self.device).and_then(|x| x.narrow(0, 0, shape.elem_count()));
        flat.and_then(|x| x.reshape(shape)?.to_dtype(dtype)?.copy()).expect("random numbers")
    }

    /// Fills the pool with NaN, so that what a kernel forgets to write is seen.
    pub fn poison(&self) {
        for elements in [1 << 10, 1 << 16, 1 << 22, 1 << 28] {
            Tensor::full(f32::NAN, elements, &self.device).and_then(|x| x.device().synchronize()).expect("room for NaN");
        }
    }

    pub fn tensor(&self, storage: CudaStorage, shape: impl Into<Shape>) -> Tensor {
        cuda::tensor(storage, shape)
    }

    /// Median microseconds of `run`, which is told its number so that it can take turns among inputs.
    pub fn median(&self, mut run: impl FnMut(usize) -> Result<()>) -> Result<f64> {
        const WARM_UP: usize = 5;
        const RUNS: usize = 41;
        let stream = self.cuda().cuda_stream();
        let event = || stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).map_err(Error::wrap);
        (0..WARM_UP).try_for_each(&mut run)?;
        let mut spans = Vec::new();
        for number in 0..RUNS {
            let start = event()?;
            run(number)?;
            spans.push((start, event()?));
        }
        let mut times = spans.iter().map(|(start, end)| start.elapsed_ms(end).map_err(Error::wrap)).collect::<Result<Vec<f32>>>()?;
        times.sort_by(f32::total_cmp);
        Ok(f64::from(times[RUNS / 2]) * 1e3)
    }

    /// Microseconds that this many bytes take, read or written.
    pub fn bytes(&self, bytes: usize) -> f64 {
        bytes as f64 / self.ceilings().0 * 1e6
    }

    /// Microseconds that this many FLOP take, in bf16 (fp8: half of them).
    pub fn flop(&self, flop: f64) -> f64 {
        flop / self.ceilings().1 * 1e6
    }

    fn ceilings(&self) -> (f64, f64) {
        *self.ceilings.get_or_init(|| {
            let x = self.normal(1 << 29, DType::BF16);
            let copy = self.median(|_| x.copy().map(drop)).expect("a copy");
            drop(x);
            let (a, b) = (self.normal((8192, 8192), DType::BF16), self.normal((8192, 8192), DType::BF16));
            let product = self.median(|_| a.matmul(&b).map(drop)).expect("a product");
            let ceilings = (2.0 * (1u64 << 30) as f64 / copy * 1e6, 2.0 * 8192f64.powi(3) / product * 1e6);
            println!("     ceilings: {:.2} TB/s in a copy, {:.0} TFLOP/s in a bf16 product of 8192³", ceilings.0 / 1e12, ceilings.1 / 1e12);
            ceilings
        })
    }
}

/// Calls a native function with tensors.
pub fn with<const N: usize, T>(tensors: [&Tensor; N], run: impl FnOnce([Arg; N]) -> Result<T>) -> Result<T> {
    let held = tensors.map(Tensor::storage_and_layout);
    run(held.each_ref().map(|(storage, layout)| match &**storage {
        Storage::Cuda(storage) => (storage, *layout),
        _ => panic!("a tensor that is not on the GPU"),
    }))
}

/// The tensor on the CPU in f64.
pub fn exact(x: &Tensor) -> Result<Tensor> {
    x.to_device(&Device::Cpu)?.to_dtype(DType::F64)
}

/// ‖x − expected‖ / ‖expected‖ in f64.
pub fn error(x: &Tensor, expected: &Tensor) -> Result<f64> {
    if x.dims() != expected.dims() {
        candle_core::bail!("{:?} instead of {:?}", x.shape(), expected.shape());
    }
    let (x, expected) = (exact(x)?, exact(expected)?);
    let norm = |x: &Tensor| x.sqr()?.sum_all()?.to_scalar::<f64>().map(f64::sqrt);
    Ok(norm(&(x - &expected)?)? / norm(&expected)?.max(f64::MIN_POSITIVE))
}

/// The worst of several errors; NaN is worse than anything.
pub fn worst(errors: impl IntoIterator<Item = f64>) -> f64 {
    errors.into_iter().fold(0.0, |worst, error| if error <= worst { worst } else { error })
}

/// What rounding to the dtype allows, for a sum that is itself right to about f32's precision.
pub fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::BF16 { 3e-3 } else { 5e-6 }
}

/// The gradients of `f` at `inputs` under the upstream gradient `g`, all in f64 on the CPU.
pub fn gradients<const N: usize>(inputs: [&Tensor; N], g: &Tensor, f: impl FnOnce(&[Tensor]) -> Result<Tensor>) -> Result<[Tensor; N]> {
    let variables: Vec<Tensor> = inputs.iter().map(|x| Ok(Var::from_tensor(&exact(x)?)?.into_inner())).collect::<Result<_>>()?;
    let grads = (f(&variables)? * exact(g)?)?.sum_all()?.backward()?;
    Ok(std::array::from_fn(|index| grads.get(&variables[index]).expect("every input has a gradient").clone()))
}

/// A view whose rows are spaced as those of a joint tensor are: columns `start..` of a wider one.
pub fn columns(x: &Tensor, start: usize, count: usize) -> Result<Tensor> {
    x.narrow(D::Minus1, start, count)
}
