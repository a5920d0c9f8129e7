//! Between candle's tensors and slices of f32 on the CPU.

use candle_core::{CpuStorage, Device, Layout, Result, Shape, Storage, Tensor, WithDType, op::BackpropOp};
use rayon::prelude::*;

/// The values of a contiguous f32 argument of an operation.
pub fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else { candle_core::bail!("a fused operation wants contiguous arguments") };
    Ok(&f32::cpu_storage_as_slice(storage)?[start..end])
}

/// Lends the values of a contiguous f32 tensor on the CPU.
pub fn with_slice<T>(x: &Tensor, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(f(slice(storage, layout)?)),
        _ => candle_core::bail!("this operation's values are on the CPU"),
    }
}

/// Lends the values of several.
pub fn with_slices<const N: usize, T>(tensors: [&Tensor; N], f: impl FnOnce([&[f32]; N]) -> T) -> Result<T> {
    let stored = tensors.map(|x| x.storage_and_layout());
    let mut slices = [&[][..]; N];
    for (values, (storage, layout)) in slices.iter_mut().zip(&stored) {
        let Storage::Cpu(storage) = &**storage else { candle_core::bail!("this operation's values are on the CPU") };
        *values = slice(storage, layout)?;
    }
    Ok(f(slices))
}

/// Gives each core some rows of `width` values to write, with the number of the first.
pub fn by_rows(out: &mut [f32], width: usize, write: impl Fn(usize, &mut [f32]) + Sync) {
    const VALUES: usize = 1 << 14; // some microseconds of work
    let rows = (VALUES / width.max(1)).max(1);
    if out.len() <= rows * width {
        return write(0, out);
    }
    out.par_chunks_mut(rows * width).enumerate().for_each(|(index, chunk)| write(index * rows, chunk));
}

/// A new tensor on the CPU.
pub fn tensor(data: CpuStorage, shape: Shape) -> Result<Tensor> {
    Ok(Tensor::from_storage(Storage::Cpu(data), shape, BackpropOp::none(), false))
}

/// `count` values that `fill` writes, all of them, reading none: clearing them first would cost as much as many of the operations.
pub fn output(count: usize, fill: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut data = Vec::with_capacity(count);
    let spare = &mut data.spare_capacity_mut()[..count];
    // SAFETY: any bits are an f32, and `fill` writes before anything reads.
    fill(unsafe { std::slice::from_raw_parts_mut(spare.as_mut_ptr().cast(), count) });
    // SAFETY: `fill` has written `count` values.
    unsafe { data.set_len(count) };
    data
}

/// Whether the fused kernels of the CPU take these arguments.
pub fn on_cpu(arguments: &[&Tensor]) -> bool {
    arguments.iter().all(|x| x.device().is_cpu() && x.dtype() == candle_core::DType::F32)
}

/// A contiguous f32 tensor on the CPU from its values.
pub fn from_vec(data: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(data, shape.into(), &Device::Cpu)
}
