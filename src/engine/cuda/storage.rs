//! Between candle's storages and device pointers: what is checked about an argument before a kernel sees it.

use super::kernels::{Shape, View, code};
use super::{Arg, Out};
use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::cuda_backend::CudaStorageSlice;
use candle_core::cuda_backend::cudarc::driver::DevicePtr;
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result, Storage, Tensor};
use std::ffi::c_void;

/// Makes a tensor, without a gradient's history, of a storage that holds exactly `shape`.
pub fn tensor(storage: CudaStorage, shape: impl Into<candle_core::Shape>) -> Tensor {
    Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
}

/// Memory for `count` elements that somebody is about to write.
pub fn uninitialised(device: &CudaDevice, count: usize, dtype: DType) -> Result<CudaStorage> {
    // SAFETY: every caller queues a kernel that writes all of it before anything reads it.
    unsafe { device.alloc_uninit(&count.into(), dtype) }
}

/// The first byte of a storage.
pub(super) fn base(storage: &CudaStorage) -> *mut c_void {
    macro_rules! start {
        ($($kind:ident)*) => {
            match &storage.slice {
                // One stream does everything, so there is nothing to wait for and nothing to record.
                $(CudaStorageSlice::$kind(slice) => slice.device_ptr(slice.stream()).0,)*
            }
        };
    }
    start!(U8 U32 I16 I32 I64 BF16 F16 F32 F64 F8E4M3 F6E2M3 F6E3M2 F4 F8E8M0) as *mut c_void
}

/// The first element of a contiguous tensor.
pub(super) fn contiguous(arg: Arg, dtype: DType, elements: usize, what: &str) -> Result<*mut c_void> {
    let (storage, layout) = arg;
    if storage.dtype() != dtype || layout.shape().elem_count() != elements || !layout.is_contiguous() {
        candle_core::bail!(
            "{what} must be {elements} contiguous elements of {dtype:?}, not {:?} of {:?} with strides {:?}",
            layout.shape(),
            storage.dtype(),
            layout.stride()
        );
    }
    Ok(offset(storage, layout.start_offset()))
}

fn offset(storage: &CudaStorage, elements: usize) -> *mut c_void {
    base(storage).wrapping_byte_add(elements * storage.dtype().size_in_bytes())
}

/// Rows of one width, evenly spaced within a picture and from picture to picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix {
    pub view: View,
    pub batch: usize,
    pub tokens: usize,
    pub width: usize,
    pub dtype: DType,
}

impl Matrix {
    /// Of [B, S, C] as it lies, of any other rank if all rows are evenly spaced.
    pub fn of(arg: Arg, what: &str) -> Result<Self> {
        Self::at(base(arg.0), arg.0.dtype(), arg.1, what)
    }

    pub fn of_output(out: &Out, what: &str) -> Result<Self> {
        Self::at(base(out.0), out.0.dtype(), out.1, what)
    }

    /// Of a fresh storage: the rows of `like`, contiguous, of another width.
    pub fn fresh(storage: &CudaStorage, like: &Self, width: usize) -> Self {
        let view = View { data: base(storage), batch_stride: (like.tokens * width) as i64, row_stride: width as i64 };
        Self { view, width, dtype: storage.dtype(), ..*like }
    }

    fn at(start: *mut c_void, dtype: DType, layout: &Layout, what: &str) -> Result<Self> {
        let (dims, stride) = (layout.dims(), layout.stride());
        let Some((&width, leading)) = dims.split_last() else { candle_core::bail!("{what} must have a dimension, not be a scalar") };
        if width > 1 && stride[leading.len()] != 1 {
            candle_core::bail!("the last dimension of {what} must be contiguous, not of stride {}", stride[leading.len()]);
        }
        let (batch, tokens, batch_stride, row_stride) = match leading {
            [] => (1, 1, width, width),
            [rows] => (1, *rows, rows * stride[0], stride[0]),
            [batch, tokens] => (*batch, *tokens, stride[0], stride[1]),
            _ => match evenly_spaced(leading, stride) {
                Some((rows, stride)) => (1, rows, rows * stride, stride),
                None => candle_core::bail!("the rows of {what} must be evenly spaced: {dims:?} with strides {stride:?}"),
            },
        };
        let data = start.wrapping_byte_add(layout.start_offset() * dtype.size_in_bytes());
        Ok(Self { view: View { data, batch_stride: batch_stride as i64, row_stride: row_stride as i64 }, batch, tokens, width, dtype })
    }

    pub fn count(&self) -> usize {
        self.batch * self.tokens
    }

    pub fn elements(&self) -> usize {
        self.count() * self.width
    }

    /// Whether this has the rows, the width and the dtype of `other`.
    pub fn expect_like(&self, other: &Self, what: &str) -> Result<()> {
        if (self.batch, self.tokens, self.width, self.dtype) != (other.batch, other.tokens, other.width, other.dtype) {
            candle_core::bail!(
                "{what} must be [{}, {}, {}] of {:?}, not [{}, {}, {}] of {:?}",
                other.batch,
                other.tokens,
                other.width,
                other.dtype,
                self.batch,
                self.tokens,
                self.width,
                self.dtype
            );
        }
        Ok(())
    }

    /// Whether every row starts at a multiple of 16 bytes and is one of eight elements long.
    pub fn vector(&self) -> bool {
        let size = self.dtype.size_in_bytes();
        let strides = [(self.batch, self.view.batch_stride), (self.tokens, self.view.row_stride)];
        self.width.is_multiple_of(8)
            && (self.view.data as usize).is_multiple_of(16)
            && strides.iter().all(|&(count, stride)| count <= 1 || (stride as usize * size).is_multiple_of(16))
    }

    /// The shape as kernels have it; `vector` if all that takes part is aligned.
    pub fn shape(&self, vector: bool) -> Result<Shape> {
        let dtype = code(self.dtype)?;
        Ok(Shape { batch: self.batch as i32, tokens: self.tokens as i32, width: self.width as i32, dtype, vector: i32::from(vector) })
    }

    /// Refuses rows that do not fit into the registers of one block.
    pub fn fit_registers(&self, what: &str) -> Result<()> {
        const MOST: usize = 16384;
        if self.width > MOST {
            candle_core::bail!("{what}: rows of {} elements, but at most {MOST} are supported", self.width);
        }
        Ok(())
    }
}

/// (count, stride) of rows that lie at equal distances, if they do.
fn evenly_spaced(dims: &[usize], stride: &[usize]) -> Option<(usize, usize)> {
    let inner = stride[dims.len() - 1];
    let mut expected = inner;
    for (&dim, &stride) in dims.iter().zip(stride).rev() {
        if dim != 1 && stride != expected {
            return None;
        }
        expected *= dim;
    }
    Some((dims.iter().product(), inner))
}

/// The one row per picture of a shift, a scale or a gate: [B, C] f32.
pub(super) fn per_picture(arg: Arg, like: &Matrix, what: &str) -> Result<Matrix> {
    let rows = Matrix::of(arg, what)?;
    if (rows.tokens, rows.batch, rows.width, rows.dtype) != (like.batch, 1, like.width, DType::F32) {
        candle_core::bail!("{what} must be [{}, {}] of F32, not {:?} of {:?}", like.batch, like.width, arg.1.shape(), rows.dtype);
    }
    // A picture's row is a "token" of the [B, C] tensor.
    Ok(Matrix { view: View { batch_stride: rows.view.row_stride, ..rows.view }, ..rows })
}
