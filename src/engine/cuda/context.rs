//! What every operation shares on one device: the stream, and the plans of cuBLASLt and cuDNN.

use super::kernels::Stream;
use super::storage::uninitialised;
use super::{cudnn::Cudnn, gemm};
use candle_core::backend::BackendDevice;
use candle_core::cuda_backend::DeviceId;
use candle_core::cuda_backend::cudarc::driver::CudaStream;
use candle_core::{CudaDevice, CudaStorage, DType, Result};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// What cuBLASLt may use; 32 MiB is what NVIDIA advises for Hopper.
pub const WORKSPACE: usize = 32 << 20;

pub struct Context {
    pub device: CudaDevice,
    pub workspace: CudaStorage,
    /// The signed dynamic code, [256] f32.
    pub dynamic: CudaStorage,
    stream: Arc<CudaStream>,
    gemm: Mutex<gemm::Plans>,
    cudnn: Mutex<Cudnn>,
}

static CONTEXTS: LazyLock<Mutex<HashMap<DeviceId, Arc<Context>>>> = LazyLock::new(Mutex::default);

/// A poisoned lock holds what was there before the panic: plans are whole or absent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    /// The device's context, made when first asked for; binds the device to the calling thread.
    pub fn of(device: &CudaDevice) -> Result<Arc<Self>> {
        let mut contexts = lock(&CONTEXTS);
        let context = match contexts.get(&device.id()) {
            Some(context) => context.clone(),
            None => {
                let context = Arc::new(Self::new(device)?);
                contexts.insert(device.id(), context.clone());
                context
            }
        };
        context.stream.context().bind_to_thread().map_err(candle_core::Error::wrap)?;
        Ok(context)
    }

    fn new(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        // `CU_STREAM_PER_THREAD`
        if stream.cu_stream() as usize == 2 {
            candle_core::bail!("this device has a stream per thread: open the GPU with `engine::cuda::open`");
        }
        let (major, minor) = stream.context().compute_capability().map_err(candle_core::Error::wrap)?;
        if major < 8 {
            candle_core::bail!("the GPU has compute capability {major}.{minor}, but 8.0 (A100, RTX 30) or above is needed");
        }
        Ok(Self {
            device: device.clone(),
            workspace: uninitialised(device, WORKSPACE, DType::U8)?,
            dynamic: device.storage_from_slice(crate::quant::dynamic::SIGNED.values())?,
            stream,
            gemm: Mutex::new(gemm::Plans::new()?),
            cudnn: Mutex::default(),
        })
    }

    pub fn stream(&self) -> Stream {
        self.stream.cu_stream().cast()
    }

    pub fn cuda_stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    pub fn gemm(&self) -> MutexGuard<'_, gemm::Plans> {
        lock(&self.gemm)
    }

    pub fn cudnn(&self) -> MutexGuard<'_, Cudnn> {
        lock(&self.cudnn)
    }
}
