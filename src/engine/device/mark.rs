//! A moment in a device's order of work, for timing: the host's clock knows when work was asked for, not when it was done.

use crate::Result;
use candle_core::Device;
#[cfg(feature = "cuda")]
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, sys::CUevent_flags};
use std::time::Instant;

pub enum Mark {
    Host(Instant),
    #[cfg(feature = "cuda")]
    Gpu(CudaEvent),
}

impl Mark {
    /// Behind everything asked of the device so far.
    pub fn now(device: &Device) -> Result<Self> {
        match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => {
                let event = device.cuda_stream().record_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
                Ok(Self::Gpu(event.map_err(super::gpu::failed)?))
            }
            _ => Ok(Self::Host(Instant::now())),
        }
    }

    /// Seconds from `earlier`, a mark of the same device, to here. Waits until the device has come here.
    pub fn seconds_since(&self, earlier: &Self) -> Result<f64> {
        match (self, earlier) {
            (Self::Host(here), Self::Host(earlier)) => Ok(here.duration_since(*earlier).as_secs_f64()),
            #[cfg(feature = "cuda")]
            (Self::Gpu(here), Self::Gpu(earlier)) => Ok(f64::from(earlier.elapsed_ms(here).map_err(super::gpu::failed)?) / 1e3),
            #[cfg(feature = "cuda")]
            _ => Err(crate::Error::invalid("marks of two devices have no time between them")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on() {
        let first = Mark::now(&Device::Cpu).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(3));
        let seconds = Mark::now(&Device::Cpu).unwrap().seconds_since(&first).unwrap();
        assert!((0.003..1.0).contains(&seconds), "{seconds}");
    }
}
