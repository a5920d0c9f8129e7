//! Between candle's storages and device pointers.

use candle_core::{CudaDevice, CudaStorage, DType, Result, Shape, Tensor};

/// Makes a tensor, without a gradient's history, of a storage that holds exactly `shape`.
pub fn tensor(storage: CudaStorage, shape: impl Into<Shape>) -> Tensor;

/// Memory for `count` elements that somebody is about to write.
pub fn uninitialised(device: &CudaDevice, count: usize, dtype: DType) -> Result<CudaStorage>;
