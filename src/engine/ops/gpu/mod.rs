//! The operations on a GPU: native functions between tensors. Weights and what they multiply are in bf16 or f32; what one product reads has
//! one type.

mod attention;
mod feature_maps;
mod pointwise;
mod products;
mod weight;

pub use attention::{packed_attention, packed_attention_gradient, softmax};
pub use feature_maps::{ConvKernel, add_maps, conv2d, enlarging_conv2d, group_norm, phases};
pub use pointwise::{
    gate_gradient, gate_gradient_x, gate_residual, gelu, gelu_gradient, layer_norm_modulate, layer_norm_modulate_gradient,
    modulation_gradients, qk_norm_rope, qk_norm_rope_gradient, qk_norm_rope_in_place,
};
pub use products::{
    add_columns, add_matrix_gradient, add_product, add_product_gradient, linear, linear_gradient, linear_into, padded, product,
    product_gradient_into,
};
pub use weight::{Host, Weight, keeping_plain};

use crate::cuda::{Arg, Out};
use candle_core::{CpuStorage, CudaStorage, InplaceOp1, Layout, Result, Storage, Tensor, bail};

pub fn holds(x: &Tensor) -> bool {
    x.device().is_cuda()
}

/// Lends the storages of tensors on one GPU.
pub fn lend<const N: usize, T>(tensors: [&Tensor; N], work: impl FnOnce([Arg; N]) -> Result<T>) -> Result<T> {
    let held = tensors.map(Tensor::storage_and_layout);
    if held.iter().any(|(storage, _)| !matches!(&**storage, Storage::Cuda(_))) {
        bail!("this operation's arguments are on the GPU, but one was given on the CPU");
    }
    work(held.each_ref().map(|(storage, layout)| match &**storage {
        Storage::Cuda(storage) => (storage, *layout),
        _ => unreachable!("just looked at"),
    }))
}

/// Lends a tensor to be written. `work` must not lend another one in the same memory.
pub fn lend_mut(x: &Tensor, work: impl Fn(Out) -> Result<()>) -> Result<()> {
    x.inplace_op1(&Write(work))
}

struct Write<F>(F);

impl<F: Fn(Out) -> Result<()>> InplaceOp1 for Write<F> {
    fn name(&self) -> &'static str {
        "write"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        bail!("this operation writes on the GPU, but was given a tensor on the CPU")
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        self.0((storage, layout))
    }
}
