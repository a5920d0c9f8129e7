//! Numbers between host and device without waiting for the work in front of them. From ordinary memory the driver's copies wait for
//! their turn; these go through page-locked buffers.

use crate::Result;
use candle_core::{DType, Device, Tensor};

/// The same f32 values on a device.
pub fn send(values: &Tensor, device: &Device) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let (Device::Cpu, Device::Cuda(device), DType::F32) = (values.device(), device, values.dtype()) {
        return pinned::send(&values.contiguous()?, device);
    }
    Ok(values.to_device(device)?)
}

/// A few numbers on their way to the host. Asking for them does not wait; whoever reads them at once does.
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
    //! Page-locked buffers, kept for reuse: to lock pages takes longer than many a copy.

    use crate::{Result, device::gpu::failed};
    use candle_core::{CudaDevice, CudaStorage, Storage, Tensor, cuda_backend::cudarc::driver, op::BackpropOp};
    use driver::{CudaContext, CudaEvent, CudaStream, DriverError, PinnedHostSlice};
    use std::sync::{Arc, Mutex, PoisonError};

    /// A buffer, and the moment from which nothing on the device reads or writes it.
    struct Buffer {
        host: PinnedHostSlice<f32>,
        idle: CudaEvent,
    }

    static BUFFERS: Mutex<Vec<Buffer>> = Mutex::new(Vec::new());

    impl Buffer {
        /// One that is idle and large enough, or a new one.
        fn take(context: &Arc<CudaContext>, length: usize) -> std::result::Result<Self, DriverError> {
            let fits = |buffer: &Self| buffer.host.len() >= length && buffer.host.context() == context && buffer.idle.is_complete();
            let mut buffers = BUFFERS.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(index) = buffers.iter().position(fits) {
                return Ok(buffers.swap_remove(index));
            }
            // SAFETY: `send` and `Copying` write before they read.
            let host = unsafe { context.alloc_pinned_with_flags(length.next_power_of_two(), 0) }?;
            Ok(Self { host, idle: context.new_event(None)? })
        }

        fn keep(self) {
            BUFFERS.lock().unwrap_or_else(PoisonError::into_inner).push(self);
        }
    }

    /// values: contiguous f32 on the CPU
    pub fn send(values: &Tensor, device: &CudaDevice) -> Result<Tensor> {
        let (storage, layout) = values.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else { unreachable!("the caller has looked") };
        let (start, length) = (layout.start_offset(), values.elem_count());
        let stream = device.cuda_stream();
        let mut buffer = Buffer::take(stream.context(), length).map_err(failed)?;
        let host = &mut buffer.host.as_mut_slice().map_err(failed)?[..length];
        host.copy_from_slice(&storage.as_slice::<f32>()?[start..start + length]);
        // SAFETY: the copy that follows writes all of it.
        let mut there = unsafe { device.alloc::<f32>(length)? };
        stream.memcpy_htod(&*host, &mut there).map_err(failed)?;
        buffer.idle.record(&stream).map_err(failed)?;
        buffer.keep();
        let there = Storage::Cuda(CudaStorage::wrap_cuda_slice(there, device.clone()));
        Ok(Tensor::from_storage(there, values.shape(), BackpropOp::none(), false))
    }

    pub struct Copying {
        buffer: Buffer,
        length: usize,
        /// Lives until the copy has read it.
        _values: Tensor,
    }

    impl Copying {
        /// values: contiguous f32, [n]
        pub fn start(values: &Tensor) -> Result<Self> {
            let (storage, layout) = values.storage_and_layout();
            let Storage::Cuda(storage) = &*storage else { unreachable!("the caller has looked") };
            let (start, length) = (layout.start_offset(), values.elem_count());
            let stream: Arc<CudaStream> = storage.device.cuda_stream();
            let mut buffer = Buffer::take(stream.context(), length).map_err(failed)?;
            let source = storage.as_cuda_slice::<f32>()?.slice(start..start + length);
            let host = &mut buffer.host.as_mut_slice().map_err(failed)?[..length];
            stream.memcpy_dtoh(&source, host).map_err(failed)?;
            buffer.idle.record(&stream).map_err(failed)?;
            Ok(Self { buffer, length, _values: values.clone() })
        }

        pub fn is_done(&self) -> bool {
            self.buffer.idle.is_complete()
        }

        pub fn finish(self) -> Result<Vec<f32>> {
            self.buffer.idle.synchronize().map_err(failed)?;
            let values = self.buffer.host.as_slice().map_err(failed)?[..self.length].to_vec();
            self.buffer.keep();
            Ok(values)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpus_numbers_are_there_at_once() {
        let values = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap().t().unwrap();
        let readback = Readback::of(&send(&values, &Device::Cpu).unwrap()).unwrap();
        assert!(readback.is_there());
        assert_eq!(readback.wait().unwrap(), [1.0, 3.0, 2.0, 4.0]);
    }
}
