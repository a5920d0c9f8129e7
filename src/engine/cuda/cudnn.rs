//! cuDNN on a device: its handle, made when first needed, and the plans of what it computes.

use super::context::Context;
use super::kernels::Stream;
use super::{attention, conv};
use candle_core::Result;
use std::ffi::{CStr, c_char};
use std::fmt::Display;
use std::ptr::{NonNull, null_mut};

/// `AtelierCudnn` of `kernels/handle.h`.
#[repr(C)]
pub struct Handle {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn atelier_cudnn_new(stream: Stream, message: *mut c_char, length: usize) -> *mut Handle;
}

#[derive(Default)]
pub struct Cudnn {
    handle: Option<NonNull<Handle>>,
    pub(super) attention: attention::Plans,
    pub(super) conv: conv::Plans,
}

// SAFETY: cuDNN's handle and plans belong to no thread, and the context keeps them behind a lock.
unsafe impl Send for Cudnn {}

impl Cudnn {
    pub fn handle(&mut self, context: &Context) -> Result<*mut Handle> {
        if self.handle.is_none() {
            // SAFETY: the stream lives as long as the context, which is never dropped.
            let handle = told("handle", |message, length| NonNull::new(unsafe { atelier_cudnn_new(context.stream(), message, length) }))?;
            self.handle = Some(handle);
        }
        Ok(self.handle.map_or(null_mut(), NonNull::as_ptr))
    }
}

/// Calls a shim with room for its message, which becomes the error. `what` of cuDNN's was wanted.
pub fn told<T>(what: impl Display, call: impl FnOnce(*mut c_char, usize) -> Option<T>) -> Result<T> {
    let mut message = [0 as c_char; 1024];
    match call(message.as_mut_ptr(), message.len()) {
        Some(value) => Ok(value),
        // SAFETY: the shim ends its message with a zero within the length it was given; without one it is empty.
        None => candle_core::bail!("cuDNN's {what}: {}", unsafe { CStr::from_ptr(message.as_ptr()) }.to_string_lossy()),
    }
}
