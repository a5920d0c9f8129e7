//! Numbers on their way from a device to the host. Asking for them does not wait; whoever reads them at once does.

use crate::Result;
use candle_core::{DType, Tensor};

/// A few f32 of one tensor.
pub struct Readback(Way);

enum Way {
    There(Vec<f32>),
    #[cfg(feature = "cuda")]
    Copying(pinned::Copying),
}

impl Readback {
    /// Asks for the values of a tensor of any shape.
    pub fn of(values: &Tensor) -> Result<Self> {
        let values = values.to_dtype(DType::F32)?.flatten_all()?.contiguous()?;
        #[cfg(feature = "cuda")]
        if values.device().is_cuda() {
            return Ok(Self(Way::Copying(pinned::Copying::start(&values)?)));
        }
        Ok(Self(Way::There(values.to_vec1()?)))
    }

    /// Whether [`Self::wait`] would return at once.
    pub fn is_there(&self) -> bool {
        match &self.0 {
            Way::There(_) => true,
            #[cfg(feature = "cuda")]
            Way::Copying(copying) => copying.is_done(),
        }
    }

    pub fn wait(self) -> Result<Vec<f32>> {
        match self.0 {
            Way::There(values) => Ok(values),
            #[cfg(feature = "cuda")]
            Way::Copying(copying) => copying.finish(),
        }
    }
}

#[cfg(feature = "cuda")]
mod pinned {
    //! Copies into page-locked memory, the only ones that the host need not wait for.

    use crate::{Result, device::gpu::failed};
    use candle_core::{Storage, Tensor, cuda_backend::cudarc::driver};
    use driver::{CudaContext, CudaEvent, DriverError, PinnedHostSlice};
    use std::sync::{Arc, Mutex, PoisonError};

    pub struct Copying {
        buffer: PinnedHostSlice<f32>,
        length: usize,
        done: CudaEvent,
        /// Lives until the copy has read it.
        _values: Tensor,
    }

    /// Buffers that are not in use: to lock pages takes longer than a small kernel.
    static IDLE: Mutex<Vec<PinnedHostSlice<f32>>> = Mutex::new(Vec::new());
    const LEAST: usize = 64;

    impl Copying {
        /// values: contiguous f32, [n]
        pub fn start(values: &Tensor) -> Result<Self> {
            let (storage, layout) = values.storage_and_layout();
            let Storage::Cuda(storage) = &*storage else { unreachable!("the caller has looked") };
            let (start, length) = (layout.start_offset(), values.elem_count());
            let stream = storage.device.cuda_stream();
            let mut buffer = take(stream.context(), length).map_err(failed)?;
            let source = storage.as_cuda_slice::<f32>()?.slice(start..start + length);
            stream.memcpy_dtoh(&source, &mut buffer).map_err(failed)?;
            let done = stream.record_event(None).map_err(failed)?;
            Ok(Self { buffer, length, done, _values: values.clone() })
        }

        pub fn is_done(&self) -> bool {
            self.done.is_complete()
        }

        pub fn finish(self) -> Result<Vec<f32>> {
            self.done.synchronize().map_err(failed)?;
            let values = self.buffer.as_slice().map_err(failed)?[..self.length].to_vec();
            IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(self.buffer);
            Ok(values)
        }
    }

    fn take(context: &Arc<CudaContext>, length: usize) -> std::result::Result<PinnedHostSlice<f32>, DriverError> {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |buffer: &PinnedHostSlice<f32>| buffer.len() >= length && buffer.context() == context;
        match idle.iter().position(fits) {
            Some(index) => Ok(idle.swap_remove(index)),
            // SAFETY: nothing is read from it before a copy has filled it.
            None => unsafe { context.alloc_pinned_with_flags(length.max(LEAST), 0) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_cpus_numbers_are_there_at_once() {
        let values = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap().t().unwrap();
        let readback = Readback::of(&values).unwrap();
        assert!(readback.is_there());
        assert_eq!(readback.wait().unwrap(), [1.0, 3.0, 2.0, 4.0]);
    }
}
