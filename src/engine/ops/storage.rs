//! Between candle's tensors and f32 values on the CPU.

use super::matrix::{Matrix, MatrixMut};
use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Result, Shape, Storage, Tensor, WithDType, bail, op::BackpropOp};
use rayon::prelude::*;

/// The values of a contiguous f32 argument of an operation.
pub fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("a fused operation wants contiguous arguments") };
    Ok(&f32::cpu_storage_as_slice(storage)?[start..end])
}

/// Lends the values of a contiguous f32 tensor on the CPU.
pub fn with_slice<T>(x: &Tensor, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
    with_slices([x], |[x]| f(x))
}

/// Lends the values of several.
pub fn with_slices<const N: usize, T>(tensors: [&Tensor; N], f: impl FnOnce([&[f32]; N]) -> T) -> Result<T> {
    let stored = tensors.map(Tensor::storage_and_layout);
    let mut slices = [&[][..]; N];
    for (values, (storage, layout)) in slices.iter_mut().zip(&stored) {
        *values = slice(on_host(storage)?, layout)?;
    }
    Ok(f(slices))
}

/// Lends tensors as matrices: the last dimension along the rows, all others down them. A transposed matrix is lent as it is; other
/// tensors whose rows are not evenly spaced (see [`rows`]) are refused.
pub fn with_matrices<const N: usize, T>(tensors: [&Tensor; N], f: impl FnOnce([Matrix; N]) -> T) -> Result<T> {
    let stored = tensors.map(Tensor::storage_and_layout);
    let mut matrices = [Matrix::new(&[], 0, 0); N];
    for (matrix, (storage, layout)) in matrices.iter_mut().zip(&stored) {
        let data = f32::cpu_storage_as_slice(on_host(storage)?)?;
        *matrix = match (Spacing::of(layout), layout.dims(), layout.stride()) {
            (Some(Spacing { rows, columns, stride }), ..) => Matrix::strided(&data[layout.start_offset()..], rows, columns, stride),
            (None, &[rows, columns], &[1, stride]) => Matrix::strided(&data[layout.start_offset()..], columns, rows, stride).t(),
            _ => bail!("a product wants evenly spaced rows, not {layout:?}"),
        };
    }
    Ok(f(matrices))
}

/// Lends the contiguous values of `x` to be changed. `f` must not read another tensor in the same memory.
pub fn change<T>(x: &Tensor, f: impl Fn(&mut [f32]) -> Result<T>) -> Result<()> {
    let contiguous = |data: &mut [f32], layout: &Layout| {
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("a fused operation wants contiguous arguments") };
        f(&mut data[start..end]).map(drop)
    };
    x.inplace_op1(&Change(contiguous))
}

/// Lends `x` as a matrix to be changed, like [`with_matrices`] and [`change`].
pub fn change_matrix(x: &Tensor, f: impl Fn(MatrixMut) -> Result<()>) -> Result<()> {
    let matrix = |data: &mut [f32], layout: &Layout| match Spacing::of(layout) {
        Some(Spacing { rows, columns, stride }) => f(MatrixMut::strided(&mut data[layout.start_offset()..], rows, columns, stride)),
        None => bail!("a product wants evenly spaced rows, not {layout:?}"),
    };
    x.inplace_op1(&Change(matrix))
}

struct Change<F>(F);

impl<F: Fn(&mut [f32], &Layout) -> Result<()>> InplaceOp1 for Change<F> {
    fn name(&self) -> &'static str {
        "change"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        match storage {
            CpuStorage::F32(data) => self.0(data, layout),
            _ => bail!("this operation works on f32"),
        }
    }
}

fn on_host(storage: &Storage) -> Result<&CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => bail!("this operation's values are on the CPU"),
    }
}

/// Rows of the last dimension, evenly spaced.
struct Spacing {
    rows: usize,
    columns: usize,
    stride: usize,
}

impl Spacing {
    fn of(layout: &Layout) -> Option<Self> {
        let (columns, leading) = layout.dims().split_last()?;
        let (along, strides) = layout.stride().split_last()?;
        if *along != 1 && *columns > 1 {
            return None;
        }
        let mut spacing = Self { rows: 1, columns: *columns, stride: *columns };
        for (&count, &stride) in leading.iter().zip(strides).rev().filter(|&(&count, _)| count != 1) {
            if spacing.rows == 1 {
                spacing.stride = stride;
            } else if stride != spacing.rows * spacing.stride {
                return None;
            }
            spacing.rows *= count;
        }
        (spacing.stride >= spacing.columns).then_some(spacing)
    }
}

/// Whether the rows of the last dimension are evenly spaced in memory.
pub fn has_rows(x: &Tensor) -> bool {
    Spacing::of(x.layout()).is_some()
}

/// `x`, copied only if its rows are not evenly spaced: a stretch of the tokens of several pictures, for example.
pub fn rows(x: &Tensor) -> Result<Tensor> {
    if has_rows(x) { Ok(x.clone()) } else { x.contiguous() }
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

/// Whether the kernels of the CPU take these arguments.
pub fn on_cpu(arguments: &[&Tensor]) -> bool {
    arguments.iter().all(|x| x.device().is_cpu() && x.dtype() == DType::F32)
}

/// A contiguous f32 tensor on the CPU from its values.
pub fn from_vec(data: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    let shape = shape.into();
    assert_eq!(data.len(), shape.elem_count());
    Ok(Tensor::from_storage(Storage::Cpu(CpuStorage::F32(data)), shape, BackpropOp::none(), false))
}

/// A new tensor of `shape` whose values `fill` writes, like [`output`].
pub fn filled(shape: impl Into<Shape>, fill: impl FnOnce(&mut [f32])) -> Result<Tensor> {
    let shape = shape.into();
    from_vec(output(shape.elem_count(), fill), shape)
}

/// A tensor of the type and on the device of `like` that somebody is about to write, all of it.
pub fn to_be_written(shape: impl Into<Shape>, like: &Tensor) -> crate::Result<Tensor> {
    let shape = shape.into();
    #[cfg(feature = "cuda")]
    if let candle_core::Device::Cuda(device) = like.device() {
        let storage = crate::cuda::uninitialised(device, shape.elem_count(), like.dtype())?;
        return Ok(crate::cuda::tensor(storage, shape));
    }
    Ok(Tensor::zeros(shape, like.dtype(), like.device())?)
}

/// The shape with another last dimension.
pub fn with_last(shape: &Shape, last: usize) -> Shape {
    let leading = &shape.dims()[..shape.rank().saturating_sub(1)];
    leading.iter().copied().chain([last]).collect::<Vec<_>>().into()
}
