//! A frozen weight on a GPU, in the form that its precision asks for.

use super::lend;
use crate::{
    Precision,
    cuda::{
        self,
        fp8::{self, Fp8Rows},
        nf4::{self, Absmax, OwnedAbsmax},
    },
    ops::activation::Fp8,
};
use candle_core::{
    CudaDevice, CudaStorage, DType, Device, Error, Result, Tensor, TensorId, bail, cuda_backend::cudarc::driver::PinnedHostSlice,
};
use half::bf16;
use std::{cell::RefCell, collections::HashMap};

/// [out, in]
pub enum Weight {
    /// bf16 or f32
    Plain(Tensor),
    Fp8(Fp8),
    Nf4(Nf4),
    /// In the host's memory, sent over whenever it is multiplied with.
    Host(Host),
}

impl Weight {
    /// weight: on the GPU.
    pub fn new(weight: &Tensor, precision: Precision) -> Result<Self> {
        // f16 has more digits than bf16, and less room.
        let exact = if weight.dtype() == DType::F16 { weight.to_dtype(DType::F32)? } else { weight.clone() };
        match precision {
            Precision::F32 | Precision::Bf16 => Ok(Self::Plain(weight.to_dtype(precision.dtype())?.contiguous()?)),
            Precision::Fp8 => {
                let Fp8Rows { data, scale } = lend([&exact], |[weight]| fp8::quantise(weight))?;
                Ok(Self::Fp8(Fp8 { data: cuda::tensor(data, weight.shape()), scale: cuda::tensor(scale, weight.dim(0)?) }))
            }
            Precision::Nf4 => Nf4::new(&exact.contiguous()?).map(Self::Nf4),
        }
    }

    /// All of it in bf16 or f32, made for a product that takes `dtype` unless it is there already.
    pub fn plain(&self, dtype: DType) -> Result<Tensor> {
        match self {
            Self::Plain(weight) => Ok(weight.clone()),
            Self::Fp8(Fp8 { data, scale }) => {
                let weight = lend([data, scale], |[data, scale]| fp8::dequantise(fp8::Fp8 { data, scale }, dtype))?;
                Ok(cuda::tensor(weight, data.shape()))
            }
            Self::Nf4(weight) => weight.plain(dtype),
            Self::Host(weight) => weight.send(),
        }
    }
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// Weights that were made plain and will be multiplied with once more, by the codes they were made of.
#[derive(Default)]
struct Kept {
    keeps: bool,
    weights: HashMap<TensorId, Tensor>,
}

/// Runs `first` and then `second`, both on this thread. What `first` makes of an NF4 weight serves once more in `second`.
pub fn keeping_plain<T, U>(first: impl FnOnce() -> T, second: impl FnOnce(T) -> U) -> U {
    struct Forget;
    impl Drop for Forget {
        fn drop(&mut self) {
            KEPT.take();
        }
    }
    let _forget = Forget;
    KEPT.with_borrow_mut(|kept| kept.keeps = true);
    let between = first();
    KEPT.with_borrow_mut(|kept| kept.keeps = false);
    second(between)
}

/// Four bits a value, and eight a block of 64.
pub struct Nf4 {
    shape: (usize, usize),
    codes: Tensor,
    absmax_codes: Tensor,
    absmax_scale: Tensor,
    absmax_offset: Tensor,
}

impl Nf4 {
    fn new(weight: &Tensor) -> Result<Self> {
        let flat = |storage: CudaStorage, count: usize| cuda::tensor(storage, count);
        let (shape, blocks) = (weight.dims2()?, weight.elem_count() / nf4::BLOCK);
        match lend([weight], |[weight]| nf4::quantise(weight, true))? {
            (codes, OwnedAbsmax::Double { codes: absmax_codes, scale, offset }) => Ok(Self {
                shape,
                codes: flat(codes, weight.elem_count() / 2),
                absmax_codes: flat(absmax_codes, blocks),
                absmax_scale: flat(scale, blocks.div_ceil(nf4::ABSMAX_BLOCK)),
                absmax_offset: flat(offset, 1),
            }),
            _ => bail!("NF4's absmax was to be quantised too"),
        }
    }

    fn plain(&self, dtype: DType) -> Result<Tensor> {
        if let Some(weight) = KEPT.with_borrow_mut(|kept| kept.weights.remove(&self.codes.id())) {
            return Ok(weight);
        }
        let weight = self.dequantise(dtype)?;
        KEPT.with_borrow_mut(|kept| kept.keeps.then(|| kept.weights.insert(self.codes.id(), weight.clone())));
        Ok(weight)
    }

    fn dequantise(&self, dtype: DType) -> Result<Tensor> {
        let parts = [&self.codes, &self.absmax_codes, &self.absmax_scale, &self.absmax_offset];
        let weight = lend(parts, |[values, codes, scale, offset]| nf4::dequantise(values, Absmax::Double { codes, scale, offset }, dtype))?;
        Ok(cuda::tensor(weight, self.shape))
    }
}

/// bf16 in page-locked memory, from where a GPU copies by itself.
pub struct Host {
    shape: (usize, usize),
    values: PinnedHostSlice<bf16>,
    device: CudaDevice,
}

impl Host {
    /// weight: on the CPU.
    pub fn new(weight: &Tensor, device: &Device) -> Result<Self> {
        let (shape, device) = (weight.dims2()?, device.as_cuda_device()?.clone());
        // SAFETY: all of it is written below.
        let mut values =
            unsafe { device.cuda_stream().context().alloc_pinned_with_flags::<bf16>(weight.elem_count(), 0) }.map_err(Error::wrap)?;
        let from = weight.to_dtype(DType::BF16)?.flatten_all()?.to_vec1::<bf16>()?;
        values.as_mut_slice().map_err(Error::wrap)?.copy_from_slice(&from);
        Ok(Self { shape, values, device })
    }

    fn send(&self) -> Result<Tensor> {
        // SAFETY: the copy writes all of it.
        let mut there = unsafe { self.device.alloc::<bf16>(self.values.len())? };
        self.device.cuda_stream().memcpy_htod(&self.values, &mut there).map_err(Error::wrap)?;
        Ok(cuda::tensor(CudaStorage::wrap_cuda_slice(there, self.device.clone()), self.shape))
    }
}
