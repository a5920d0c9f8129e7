//! The side path of a LoRA pair, in two operations that add in place: h = x·Aᵀ and y + scale·h·Bᵀ.

use super::matrix::{Matrix, MatrixMut, Right, Write, product};
use super::storage::{self, output};
use crate::{LoraPair, Result};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Shape, Tensor};

/// y + scale·(x·Aᵀ)·Bᵀ, with gradients for x, A and B. y: [.., out]; x: [.., in].
pub fn add_lora(y: &Tensor, x: &Tensor, pair: &LoraPair) -> Result<Tensor> {
    if !storage::on_cpu(&[y, x, &pair.a, &pair.b]) {
        return Ok(super::plain::add_lora(y, x, &pair.a, &pair.b, pair.scale)?);
    }
    let hidden = x.contiguous()?.apply_op2(&pair.a.contiguous()?, Down)?;
    Ok(y.contiguous()?.apply_op3(&hidden, &pair.b.contiguous()?, Up { scale: pair.scale as f32 })?)
}

/// x·Aᵀ. x: [.., in]; A: [r, in] → [.., r]
struct Down;

/// y + scale·h·Bᵀ. y: [.., out]; h: [.., r]; B: [out, r]
struct Up {
    scale: f32,
}

impl CustomOp2 for Down {
    fn name(&self) -> &'static str {
        "lora-down"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, a: &CpuStorage, la: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (rank, inner) = la.shape().dims2()?;
        let rows = rows(lx.shape(), inner)?;
        let (x, a) = (storage::slice(x, lx)?, storage::slice(a, la)?);
        let h = times(Matrix::new(x, rows, inner), Matrix::new(a, rank, inner).t());
        Ok((CpuStorage::F32(h), with_last(lx.shape(), rank)))
    }

    fn bwd(&self, x: &Tensor, a: &Tensor, _h: &Tensor, gradient: &Tensor) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let (rank, inner) = a.dims2()?;
        let rows = rows(x.shape(), inner)?;
        let gradient = gradient.contiguous()?;
        storage::with_slice(&gradient, |g| {
            let g = Matrix::new(g, rows, rank);
            let dx = x.track_op().then(|| storage::with_slice(a, |a| times(g, Matrix::new(a, rank, inner)))).transpose()?;
            let da =
                a.track_op().then(|| storage::with_slice(x, |x| turned(&times(Matrix::new(x, rows, inner).t(), g), rank))).transpose()?;
            let tensor = |data: Option<Vec<f32>>, like: &Tensor| data.map(|data| storage::from_vec(data, like.shape())).transpose();
            Ok((tensor(dx, x)?, tensor(da, a)?))
        })?
    }
}

impl CustomOp3 for Up {
    fn name(&self) -> &'static str {
        "lora-up"
    }

    fn cpu_fwd(
        &self,
        y: &CpuStorage,
        ly: &Layout,
        h: &CpuStorage,
        lh: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (columns, rank) = lb.shape().dims2()?;
        let rows = rows(lh.shape(), rank)?;
        if ly.shape().elem_count() != rows * columns {
            candle_core::bail!("a LoRA pair of {columns} outputs cannot be added to {:?}", ly.shape());
        }
        let (y, h, b) = (storage::slice(y, ly)?, storage::slice(h, lh)?, storage::slice(b, lb)?);
        let right = Right::pack(Matrix::new(&scaled(b, self.scale), columns, rank).t());
        let sum = output(y.len(), |sum| {
            sum.copy_from_slice(y);
            product(Matrix::new(h, rows, rank), &right, MatrixMut::new(sum, rows, columns), Write::Add);
        });
        Ok((CpuStorage::F32(sum), ly.shape().clone()))
    }

    fn bwd(
        &self,
        y: &Tensor,
        h: &Tensor,
        b: &Tensor,
        _sum: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (columns, rank) = b.dims2()?;
        let rows = rows(h.shape(), rank)?;
        let gradient = gradient.contiguous()?;
        let (dh, db) = storage::with_slice(&gradient, |g| {
            let g = Matrix::new(g, rows, columns);
            let dh = storage::with_slice(b, |b| times(g, Matrix::new(&scaled(b, self.scale), columns, rank)))?;
            let db = storage::with_slice(h, |h| times(g.t(), Matrix::new(&scaled(h, self.scale), rows, rank)))?;
            candle_core::Result::Ok((storage::from_vec(dh, h.shape())?, storage::from_vec(db, b.shape())?))
        })??;
        Ok((y.track_op().then_some(gradient), Some(dh), b.track_op().then_some(db)))
    }
}

fn times(left: Matrix, right: Matrix) -> Vec<f32> {
    output(left.rows * right.columns, |out| {
        product(left, &Right::pack(right), MatrixMut::new(out, left.rows, right.columns), Write::Replace)
    })
}

fn rows(shape: &Shape, inner: usize) -> candle_core::Result<usize> {
    match shape.dims().last() {
        Some(&last) if last == inner => Ok(shape.elem_count() / inner.max(1)),
        last => candle_core::bail!("a LoRA matrix over {inner} features was given {last:?}"),
    }
}

fn with_last(shape: &Shape, last: usize) -> Shape {
    let leading = &shape.dims()[..shape.rank() - 1];
    leading.iter().copied().chain([last]).collect::<Vec<_>>().into()
}

fn scaled(values: &[f32], scale: f32) -> Vec<f32> {
    values.iter().map(|x| x * scale).collect()
}

/// [n, rank] → [rank, n]
fn turned(data: &[f32], rank: usize) -> Vec<f32> {
    (0..rank).flat_map(|r| data.iter().skip(r).step_by(rank).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{plain, testing::*};

    #[test]
    fn agrees_with_plain() {
        for (seed, (lead, inner, columns, rank)) in
            [(&[1usize, 7][..], 48, 250, 1), (&[3, 129], 64, 64, 16), (&[5], 250, 24, 5)].into_iter().enumerate()
        {
            let seed = seed as u64 * 10;
            let shape = |last| lead.iter().copied().chain([last]).collect::<Vec<_>>();
            let inputs = [
                tensor(seed, shape(columns)),
                tensor(seed + 1, shape(inner)),
                tensor(seed + 2, (rank, inner)),
                tensor(seed + 3, (columns, rank)),
            ];
            let pair = |x: &[Tensor]| LoraPair { a: x[2].clone(), b: x[3].clone(), scale: 0.7 };
            compare(
                &format!("add_lora {lead:?} {inner} {columns} {rank}"),
                &inputs,
                |x| add_lora(&x[0], &x[1], &pair(x)).unwrap(),
                |x| plain::add_lora(&x[0], &x[1], &x[2], &x[3], 0.7).unwrap(),
            );
        }
    }

    #[test]
    fn scale_zero_changes_nothing() {
        let (y, x) = (tensor(0, (2, 9, 40)), tensor(1, (2, 9, 24)));
        let pair = LoraPair { a: tensor(2, (4, 24)), b: tensor(3, (40, 4)), scale: 0.0 };
        assert_close("scale 0", &add_lora(&y, &x, &pair).unwrap(), &y, 0.0);
    }
}
