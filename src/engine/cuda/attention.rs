//! softmax(q·kᵀ/√D)·v over all tokens by cuDNN's fused kernels (twin: `ops::plain::attention`).

use super::Arg;
use super::context::Context;
use super::cudnn::{Handle, told};
use super::storage::{base, contiguous, uninitialised};
use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, DType, Layout, Result};
use std::collections::HashMap;
use std::ffi::{c_char, c_void};
use std::ptr::{NonNull, null_mut};

/// What a forward pass leaves.
pub struct Attended {
    /// [B, S, H·D] bf16
    pub out: CudaStorage,
    /// [B, H, S] f32: log Σ exp of each row's scaled scores, if asked for; the gradient needs it.
    pub log_sum_exp: Option<CudaStorage>,
}

/// Whether [`attention`] takes these: bf16, D a multiple of 8 and at most 128. Else use the plain twin.
pub fn supports(dtype: DType, head_dim: usize) -> bool {
    dtype == DType::BF16 && head_dim.is_multiple_of(8) && (8..=128).contains(&head_dim)
}

/// qkv: contiguous [B, S, 3, H, D] (or [B, S, 3·H·D]).
///
/// # Errors
/// What [`supports`] refuses.
pub fn attention(qkv: Arg, heads: usize, keep_log_sum_exp: bool) -> Result<Attended> {
    let (context, shape) = (Context::of(&qkv.0.device)?, Shape::of(qkv.0, qkv.1, heads)?);
    let out = uninitialised(&context.device, shape.elements(), DType::BF16)?;
    let log_sum_exp = keep_log_sum_exp.then(|| uninitialised(&context.device, shape.rows(), DType::F32)).transpose()?;
    let memory = Memory {
        qkv: contiguous(qkv, DType::BF16, 3 * shape.elements(), "qkv")?,
        out: base(&out),
        lse: log_sum_exp.as_ref().map_or(null_mut(), base),
        ..Memory::NONE
    };
    let pass = if keep_log_sum_exp { Pass::ForwardWithLse } else { Pass::Forward };
    run(&context, shape, pass, memory)?;
    Ok(Attended { out, log_sum_exp })
}

/// dqkv, packed as qkv. out, log_sum_exp: what [`attention`] left; g: contiguous [B, S, H·D]. `reproducible`: the same bits on every run,
/// for 2·B·H·S² bytes of scratch and some time; else sums over blocks happen in any order.
pub fn attention_gradient(qkv: Arg, heads: usize, out: Arg, log_sum_exp: Arg, g: Arg, reproducible: bool) -> Result<CudaStorage> {
    let (context, shape) = (Context::of(&qkv.0.device)?, Shape::of(qkv.0, qkv.1, heads)?);
    let dqkv = uninitialised(&context.device, 3 * shape.elements(), DType::BF16)?;
    let memory = Memory {
        qkv: contiguous(qkv, DType::BF16, 3 * shape.elements(), "qkv")?,
        out: contiguous(out, DType::BF16, shape.elements(), "the attended values")?,
        lse: contiguous(log_sum_exp, DType::F32, shape.rows(), "the log-sum-exp")?,
        g: contiguous(g, DType::BF16, shape.elements(), "g")?,
        dqkv: base(&dqkv),
        ..Memory::NONE
    };
    let pass = if reproducible { Pass::BackwardReproducible } else { Pass::Backward };
    run(&context, shape, pass, memory)?;
    Ok(dqkv)
}

/// `SdpaShape` of `kernels/sdpa.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    batch: i64,
    tokens: i64,
    heads: i64,
    width: i64,
}

impl Shape {
    fn of(qkv: &CudaStorage, layout: &Layout, heads: usize) -> Result<Self> {
        let dims = layout.dims();
        let &[batch, tokens, ..] = dims else { candle_core::bail!("qkv must be [B, S, 3, H, D], not {dims:?}") };
        let row = dims[2..].iter().product::<usize>();
        if heads == 0 || batch * tokens == 0 || !row.is_multiple_of(3 * heads) || !supports(qkv.dtype(), row / (3 * heads)) {
            candle_core::bail!(
                "fused attention takes bf16 and heads of 8 to 128 elements, a multiple of 8, not {dims:?} of {:?} with {heads} heads: \
                 use the plain one",
                qkv.dtype()
            );
        }
        Ok(Self { batch: batch as i64, tokens: tokens as i64, heads: heads as i64, width: (row / (3 * heads)) as i64 })
    }

    fn rows(&self) -> usize {
        (self.batch * self.heads * self.tokens) as usize
    }

    fn elements(&self) -> usize {
        self.rows() * self.width as usize
    }
}

/// `SdpaPass` of `kernels/sdpa.h`.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Pass {
    Forward = 0,
    ForwardWithLse = 1,
    Backward = 2,
    BackwardReproducible = 3,
}

/// `SdpaMemory` of `kernels/sdpa.h`.
#[repr(C)]
struct Memory {
    qkv: *mut c_void,
    out: *mut c_void,
    lse: *mut c_void,
    g: *mut c_void,
    dqkv: *mut c_void,
    workspace: *mut c_void,
}

impl Memory {
    const NONE: Self = Self { qkv: null_mut(), out: null_mut(), lse: null_mut(), g: null_mut(), dqkv: null_mut(), workspace: null_mut() };
}

#[repr(C)]
struct Sdpa {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn atelier_sdpa_new(cudnn: *mut Handle, of: Shape, pass: i32, workspace: *mut i64, message: *mut c_char, length: usize) -> *mut Sdpa;
    fn atelier_sdpa_run(cudnn: *mut Handle, sdpa: *mut Sdpa, memory: *const Memory, message: *mut c_char, length: usize) -> i32;
}

#[derive(Default)]
pub(super) struct Plans(HashMap<(Shape, Pass), Plan>);

#[derive(Clone, Copy)]
struct Plan {
    sdpa: NonNull<Sdpa>,
    /// In bytes.
    workspace: usize,
}

fn run(context: &Context, shape: Shape, pass: Pass, memory: Memory) -> Result<()> {
    let mut cudnn = context.cudnn();
    let (handle, plans) = (cudnn.handle(context)?, &mut cudnn.attention.0);
    let plan = match plans.get(&(shape, pass)) {
        Some(plan) => *plan,
        None => *plans.entry((shape, pass)).or_insert(Plan::new(handle, shape, pass)?),
    };
    // Given back to the pool at once: what the stream does next comes after.
    let workspace = uninitialised(&context.device, plan.workspace.max(1), DType::U8)?;
    let memory = Memory { workspace: base(&workspace), ..memory };
    told("attention", |message, length| {
        // SAFETY: the memory has the sizes that the shape asks for, as `attention` and `attention_gradient` made or checked it.
        (unsafe { atelier_sdpa_run(handle, plan.sdpa.as_ptr(), &memory, message, length) } == 0).then_some(())
    })
}

impl Plan {
    fn new(cudnn: *mut Handle, shape: Shape, pass: Pass) -> Result<Self> {
        let mut workspace = 0;
        let sdpa = told("attention", |message, length| {
            // SAFETY: `cudnn` is alive, `workspace` a number to write to.
            NonNull::new(unsafe { atelier_sdpa_new(cudnn, shape, pass as i32, &mut workspace, message, length) })
        })?;
        Ok(Self { sdpa, workspace: workspace as usize })
    }
}
