//! Convolution over channels-last feature maps by cuDNN, with the bias in its epilogue (twin: `ops::plain::conv2d`).

use super::Arg;
use super::context::Context;
use super::cudnn::{Handle, told};
use super::kernels::{self, code, queued};
use super::storage::{base, contiguous, uninitialised};
use candle_core::{CudaStorage, DType, Result};
use std::collections::HashMap;
use std::ffi::{c_char, c_void};
use std::fmt;
use std::ptr::{NonNull, null_mut};

/// Bytes that a convolution may take beside what it reads and writes; cuDNN's plans that want more are passed over.
pub const WORKSPACE: usize = 16 << 20;

/// cuDNN's tensor-core engines read eight channels of bf16 at once.
pub const CHANNELS: usize = 8;

/// How a kernel moves over a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweep {
    pub stride: usize,
    /// Zeros on every side.
    pub padding: usize,
}

impl Sweep {
    /// Along one side of the picture, of which a kernel of this size fits at least once.
    fn outputs(self, side: usize, kernel: usize) -> usize {
        (side + 2 * self.padding - kernel) / self.stride + 1
    }
}

/// Cross-correlation plus bias, and plus a residual. x: [B, H, W, in]; weight: [out, k, k, in]; bias: [out]; residual: [B, H', W', out];
/// contiguous bf16, `in` and `out` multiples of [`CHANNELS`] → [B, H', W', out] and its sizes.
///
/// # Errors
/// Other types or sizes, and what cuDNN refuses.
pub fn conv2d(x: Arg, weight: Arg, bias: Arg, residual: Option<Arg>, sweep: Sweep) -> Result<(CudaStorage, [usize; 4])> {
    let context = Context::of(&x.0.device)?;
    let shape = Shape::of(x, weight, sweep)?;
    let out_size = [shape.batch as usize, shape.out_height(), shape.out_width(), shape.outputs as usize];
    let elements = out_size.iter().product();
    let y = uninitialised(&context.device, elements, DType::BF16)?;
    let read = |arg: Arg, what: &str| contiguous(arg, DType::BF16, arg.1.shape().elem_count(), what);
    let memory = Memory {
        x: read(x, "a convolution's input")?,
        weight: read(weight, "a convolution's kernel")?,
        bias: contiguous(bias, DType::BF16, shape.outputs as usize, "a convolution's bias")?,
        y: base(&y),
        workspace: null_mut(),
    };
    run(&context, shape, memory)?;
    // In a pass of its own: cuDNN would fuse it, with kernels that it compiles anew for each size of picture, 1.5 to 2.7 s a layer of FLUX's
    // decoder, for some 1 ms a picture. Those with a bias alone come ready.
    if let Some(residual) = residual {
        let residual = contiguous(residual, DType::BF16, elements, "a convolution's residual")?;
        // SAFETY: both hold `elements`.
        queued(unsafe { kernels::atelier_add(elements as i64, code(DType::BF16)?, residual, base(&y), context.stream()) }, "add")?;
    }
    Ok((y, out_size))
}

/// `ConvShape` of `kernels/conv.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    batch: i64,
    height: i64,
    width: i64,
    inputs: i64,
    outputs: i64,
    kernel: i64,
    stride: i64,
    padding: i64,
}

impl Shape {
    fn of(x: Arg, weight: Arg, sweep: Sweep) -> Result<Self> {
        let ((batch, height, width, inputs), (outputs, kernel, across, read)) = (x.1.shape().dims4()?, weight.1.shape().dims4()?);
        let fits = height.min(width) + 2 * sweep.padding >= kernel && sweep.stride > 0 && batch * height * width * kernel > 0;
        if inputs != read || kernel != across || !inputs.is_multiple_of(CHANNELS) || !outputs.is_multiple_of(CHANNELS) || !fits {
            candle_core::bail!(
                "a convolution takes [B, H, W, in] and [out, k, k, in] with channels in multiples of {CHANNELS}, not {:?} and {:?} with {sweep:?}",
                x.1.shape(),
                weight.1.shape()
            );
        }
        let [batch, height, width, inputs, outputs, kernel] = [batch, height, width, inputs, outputs, kernel].map(|n| n as i64);
        let Sweep { stride, padding } = sweep;
        Ok(Self { batch, height, width, inputs, outputs, kernel, stride: stride as i64, padding: padding as i64 })
    }

    fn sweep(&self) -> Sweep {
        Sweep { stride: self.stride as usize, padding: self.padding as usize }
    }

    fn out_height(&self) -> usize {
        self.sweep().outputs(self.height as usize, self.kernel as usize)
    }

    fn out_width(&self) -> usize {
        self.sweep().outputs(self.width as usize, self.kernel as usize)
    }
}

/// `convolution of [1, 64, 64, 512] by 3 × 3 to 512 channels, stride 1, padding 1`
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batch, height, width, inputs, outputs, kernel, stride, padding } = self;
        write!(f, "convolution of [{batch}, {height}, {width}, {inputs}] by {kernel} × {kernel} to {outputs} channels, ")?;
        write!(f, "stride {stride}, padding {padding}")
    }
}

/// `ConvMemory` of `kernels/conv.h`.
#[repr(C)]
struct Memory {
    x: *mut c_void,
    weight: *mut c_void,
    bias: *mut c_void,
    y: *mut c_void,
    workspace: *mut c_void,
}

#[repr(C)]
struct Conv {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn atelier_conv_new(
        cudnn: *mut Handle,
        of: Shape,
        trial: *const Memory,
        most_workspace: i64,
        workspace: *mut i64,
        message: *mut c_char,
        length: usize,
    ) -> *mut Conv;
    fn atelier_conv_run(cudnn: *mut Handle, conv: *mut Conv, memory: *const Memory, message: *mut c_char, length: usize) -> i32;
}

#[derive(Default)]
pub(super) struct Plans(HashMap<Shape, Plan>);

#[derive(Clone, Copy)]
struct Plan {
    conv: NonNull<Conv>,
    /// In bytes.
    workspace: usize,
}

/// memory: as large as the shape says.
fn run(context: &Context, shape: Shape, memory: Memory) -> Result<()> {
    let mut cudnn = context.cudnn();
    let (handle, plans) = (cudnn.handle(context)?, &mut cudnn.conv.0);
    let plan = match plans.get(&shape) {
        Some(plan) => *plan,
        None => *plans.entry(shape).or_insert(Plan::new(context, handle, shape, &memory)?),
    };
    // Given back to the pool at once: what the stream does next comes after.
    let workspace = uninitialised(&context.device, plan.workspace.max(1), DType::U8)?;
    let memory = Memory { workspace: base(&workspace), ..memory };
    told(shape, |message, length| {
        // SAFETY: the memory is as large as the shape says.
        (unsafe { atelier_conv_run(handle, plan.conv.as_ptr(), &memory, message, length) } == 0).then_some(())
    })
}

impl Plan {
    fn new(context: &Context, cudnn: *mut Handle, shape: Shape, memory: &Memory) -> Result<Self> {
        let room = uninitialised(&context.device, WORKSPACE, DType::U8)?;
        let trial = Memory { workspace: base(&room), ..*memory };
        let mut workspace = 0;
        let conv = told(shape, |message, length| {
            // SAFETY: `cudnn` is alive, the memory as large as the shape says, `workspace` a number to write to.
            NonNull::new(unsafe { atelier_conv_new(cudnn, shape, &trial, WORKSPACE as i64, &mut workspace, message, length) })
        })?;
        Ok(Self { conv, workspace: workspace as usize })
    }
}
