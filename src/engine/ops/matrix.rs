//! Products of f32 matrices on the CPU: AMX tiles where there are any, else AVX-512 registers, else the `gemm` crate.

use super::storage::output;
use super::unit::Unit;
#[cfg(target_arch = "x86_64")]
use super::{amx, avx512};
use rayon::prelude::*;
use std::marker::PhantomData;

/// A matrix that runs along its rows or along its columns, in someone else's memory.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    pub row_stride: usize,
    pub column_stride: usize,
}

impl<'a> Matrix<'a> {
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Rows that start `row_stride` apart.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(rows == 0 || columns == 0 || data.len() >= (rows - 1) * row_stride + columns);
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    pub fn t(self) -> Self {
        let Self { data, rows, columns, row_stride, column_stride } = self;
        Self { data, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }

    /// `count` rows from `first` on.
    pub fn narrow(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.rows);
        Self { data: self.from(first, 0), rows: count, ..self }
    }

    /// The memory from (row, column) on.
    #[inline(always)]
    pub fn from(&self, row: usize, column: usize) -> &'a [f32] {
        self.data.get(row * self.row_stride + column * self.column_stride..).unwrap_or_default()
    }

    /// Its values by rows.
    pub fn to_rows(self) -> Vec<f32> {
        output(self.rows * self.columns, |out| {
            for (row, values) in out.chunks_exact_mut(self.columns.max(1)).enumerate() {
                let source = self.from(row, 0);
                if self.column_stride == 1 {
                    values.copy_from_slice(&source[..self.columns]);
                } else {
                    values.iter_mut().zip(source.iter().step_by(self.column_stride)).for_each(|(to, &from)| *to = from);
                }
            }
        })
    }
}

/// A matrix to write, by rows; parts of it can be written at the same time.
pub struct MatrixMut<'a> {
    start: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    memory: PhantomData<&'a mut [f32]>,
}

// SAFETY: a `MatrixMut` is the only way to its elements while it lives, like the `&mut [f32]` it was made from.
unsafe impl Send for MatrixMut<'_> {}

impl<'a> MatrixMut<'a> {
    pub fn new(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Rows that start `stride` apart.
    pub fn strided(data: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(columns <= stride && (rows == 0 || columns == 0 || data.len() >= (rows - 1) * stride + columns));
        Self { start: data.as_mut_ptr(), rows, columns, stride, memory: PhantomData }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Valid for the rest of the row; (row, column) must lie inside.
    pub fn at(&self, row: usize, column: usize) -> *mut f32 {
        debug_assert!(row < self.rows && column < self.columns);
        self.start.wrapping_add(row * self.stride + column)
    }

    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows);
        // SAFETY: the row lies inside the memory that `self` borrows.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride), self.columns) }
    }

    /// The same, for a while.
    pub fn reborrow(&mut self) -> MatrixMut<'_> {
        MatrixMut { memory: PhantomData, ..*self }
    }

    /// `count` rows from `first` on.
    pub fn narrow(&mut self, first: usize, count: usize) -> MatrixMut<'_> {
        assert!(first + count <= self.rows);
        MatrixMut { start: self.start.wrapping_add(first * self.stride), rows: count, memory: PhantomData, ..*self }
    }

    /// Blocks of at most this size, with the row and column each starts at.
    pub fn blocks(self, rows: usize, columns: usize) -> Vec<(usize, usize, MatrixMut<'a>)> {
        let starts = (0..self.rows).step_by(rows).flat_map(|row| (0..self.columns).step_by(columns).map(move |column| (row, column)));
        let block = |(row, column)| {
            let part = MatrixMut {
                start: self.at(row, column),
                rows: rows.min(self.rows - row),
                columns: columns.min(self.columns - column),
                ..self
            };
            (row, column, part)
        };
        starts.map(block).collect()
    }
}

/// The right operand of a product, laid out as the product wants it.
pub struct Right {
    rows: usize,
    layout: Layout,
}

enum Layout {
    #[cfg(target_arch = "x86_64")]
    Tiles(amx::Right),
    #[cfg(target_arch = "x86_64")]
    Panels(avx512::Right),
    /// [rows, columns], contiguous
    Rows(Vec<f32>),
}

impl Right {
    pub fn pack(matrix: Matrix) -> Self {
        Self::pack_as(matrix, false)
    }

    /// `exact`: every value is a bf16 value.
    pub fn pack_as(matrix: Matrix, exact: bool) -> Self {
        Self::pack_for(Unit::best(), matrix, exact)
    }

    fn pack_for(unit: Unit, matrix: Matrix, exact: bool) -> Self {
        let layout = match unit {
            #[cfg(target_arch = "x86_64")]
            Unit::Amx => Layout::Tiles(amx::Right::pack(matrix, exact)),
            #[cfg(target_arch = "x86_64")]
            Unit::Avx512 => Layout::Panels(avx512::Right::pack(matrix)),
            Unit::Portable => Layout::Rows(matrix.to_rows()),
        };
        Self { rows: matrix.rows, layout }
    }

    /// The transpose, packed too.
    pub fn transposed(&self) -> Self {
        let turned = |unit: Unit, data: &[f32], exact: bool| Self::pack_for(unit, Matrix::new(data, self.rows, self.columns()).t(), exact);
        match &self.layout {
            #[cfg(target_arch = "x86_64")]
            Layout::Tiles(tiles) => turned(Unit::Amx, &tiles.unpack(self.rows), tiles.is_exact()),
            #[cfg(target_arch = "x86_64")]
            Layout::Panels(panels) => turned(Unit::Avx512, &panels.unpack(), false),
            Layout::Rows(data) => turned(Unit::Portable, data, false),
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        match &self.layout {
            #[cfg(target_arch = "x86_64")]
            Layout::Tiles(tiles) => tiles.columns(),
            #[cfg(target_arch = "x86_64")]
            Layout::Panels(panels) => panels.columns(),
            Layout::Rows(data) => data.len() / self.rows.max(1),
        }
    }
}

/// How a product meets what is already in its output.
#[derive(Clone, Copy)]
pub enum Write<'a> {
    Replace,
    Add,
    /// Each row starts from these values: a bias.
    From(&'a [f32]),
}

impl Write<'_> {
    fn adds(&self) -> bool {
        !matches!(self, Self::Replace)
    }
}

/// out = left · right[.., column..], or added to it, on this thread. `column` is a multiple of 32.
pub fn product_block(left: Matrix, right: &Right, column: usize, mut out: MatrixMut, write: Write) {
    assert!(left.columns == right.rows && left.rows == out.rows && column + out.columns <= right.columns());
    let columns = column..column + out.columns;
    match write {
        Write::Replace if left.columns == 0 => (0..out.rows).for_each(|row| out.row_mut(row).fill(0.0)),
        Write::From(bias) => (0..out.rows).for_each(|row| out.row_mut(row).copy_from_slice(&bias[columns.clone()])),
        _ => {}
    }
    if left.columns == 0 {
        return;
    }
    match &right.layout {
        #[cfg(target_arch = "x86_64")]
        Layout::Tiles(tiles) => amx::product(left, tiles, column, out, write.adds()),
        #[cfg(target_arch = "x86_64")]
        Layout::Panels(panels) => avx512::product(left, panels, column, out, write.adds()),
        Layout::Rows(data) => product_rows(left, &Matrix::strided(&data[column..], right.rows, out.columns, right.columns()), out, write),
    }
}

/// The same with a right operand that is not packed, whatever the CPU has.
pub fn product_rows(left: Matrix, right: &Matrix, out: MatrixMut, write: Write) {
    assert!(left.columns == right.rows && left.rows == out.rows && out.columns <= right.columns);
    let accumulate = write.adds();
    // SAFETY: `Matrix` and `MatrixMut` hold rows and columns inside their memory, and the shapes have been compared.
    unsafe {
        gemm::gemm(
            out.rows,
            out.columns,
            left.columns,
            out.start,
            1,
            out.stride as isize,
            accumulate,
            left.data.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            if accumulate { 1.0 } else { 0.0 },
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// out = left · right, or added to it, on all cores.
pub fn product(left: Matrix, right: &Right, out: MatrixMut, write: Write) {
    product_then(left, right, out, write, |_| {});
}

/// The same, and then `finish` on every row of a block while the block is in a cache.
pub fn product_then(left: Matrix, right: &Right, out: MatrixMut, write: Write, finish: impl Fn(&mut [f32]) + Sync) {
    let (rows, columns) = grid(left.rows, left.columns, right.columns());
    let one = |(row, column, mut block): (usize, usize, MatrixMut)| {
        let rows = block.rows;
        product_block(left.narrow(row, rows), right, column, block.reborrow(), write);
        (0..rows).for_each(|row| finish(block.row_mut(row)));
    };
    let blocks = out.blocks(rows, columns);
    if blocks.len() == 1 {
        blocks.into_iter().for_each(one);
    } else {
        blocks.into_par_iter().for_each(one);
    }
}

/// Rows and columns of the blocks that threads work on, in multiples of 32. Each block packs its rows anew, so rows are divided before columns;
/// the packed rows should stay in a core's second cache.
fn grid(rows: usize, inner: usize, columns: usize) -> (usize, usize) {
    const CACHE: usize = 1 << 20;
    const WORTH_A_THREAD: usize = 1 << 18; // multiply-adds: some microseconds
    let tasks = (rows * inner * columns / WORTH_A_THREAD).clamp(1, 2 * rayon::current_num_threads());
    let whole = |n: usize| n.next_multiple_of(32).max(32);
    let fitting = (CACHE / (4 * inner.max(1)) / 32 * 32).max(32);
    let block_rows = whole(rows.div_ceil(tasks)).min(fitting);
    let beside = (tasks / rows.div_ceil(block_rows).max(1)).max(1);
    (block_rows, whole(columns.div_ceil(beside)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{numbers, relative_error};

    fn naive(a: &[f32], b: &[f32], (m, k, n): (usize, usize, usize)) -> Vec<f32> {
        let dot = |i: usize, j: usize| (0..k).map(|p| a[i * k + p] as f64 * b[p * n + j] as f64).sum::<f64>() as f32;
        (0..m * n).map(|at| dot(at / n, at % n)).collect()
    }

    fn turned(data: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        (0..data.len()).map(|at| data[at % rows * columns + at / rows]).collect()
    }

    const SHAPES: [(usize, usize, usize); 8] =
        [(1, 1, 1), (1, 256, 48), (7, 33, 31), (33, 64, 65), (129, 250, 96), (64, 31, 250), (300, 96, 17), (96, 1280, 256)];

    #[test]
    fn products_agree_with_the_definition_in_every_orientation() {
        for (seed, shape @ (m, k, n)) in SHAPES.into_iter().enumerate() {
            let (a, b, start) = (numbers(seed as u64, m * k), numbers(seed as u64 + 100, k * n), numbers(seed as u64 + 200, m * n));
            let (a_turned, b_turned) = (turned(&a, m, k), turned(&b, k, n));
            let expected = naive(&a, &b, shape);
            let sum: Vec<f32> = expected.iter().zip(&start).map(|(x, y)| x + y).collect();
            for left in [Matrix::new(&a, m, k), Matrix::new(&a_turned, k, m).t()] {
                for right in [Matrix::new(&b, k, n), Matrix::new(&b_turned, n, k).t()] {
                    let packed = |unit| [Right::pack_for(unit, right, false), Right::pack_for(unit, right.t(), false).transposed()];
                    for packed in Unit::all().into_iter().flat_map(packed) {
                        let mut out = vec![f32::NAN; m * n];
                        product(left, &packed, MatrixMut::new(&mut out, m, n), Write::Replace);
                        assert!(relative_error(&out, &expected) < 1e-5, "{shape:?}: {}", relative_error(&out, &expected));
                        out.copy_from_slice(&start);
                        product(left, &packed, MatrixMut::new(&mut out, m, n), Write::Add);
                        assert!(relative_error(&out, &sum) < 1e-5, "{shape:?} added");
                    }
                }
            }
        }
    }

    #[test]
    fn an_exact_right_operand_needs_one_part_only() {
        let (m, k, n) = (40, 70, 50);
        let a = numbers(1, m * k);
        let b: Vec<f32> = numbers(2, k * n).into_iter().map(|x| half::bf16::from_f32(x).to_f32()).collect();
        let packed = Right::pack_as(Matrix::new(&b, k, n), true);
        let mut out = vec![0.0; m * n];
        product(Matrix::new(&a, m, k), &packed, MatrixMut::new(&mut out, m, n), Write::Replace);
        assert!(relative_error(&out, &naive(&a, &b, (m, k, n))) < 1e-5);
    }

    #[test]
    fn blocks_of_strided_outputs_touch_nothing_else() {
        let (m, k, n, stride) = (37, 20, 35, 50);
        let (a, b) = (numbers(1, m * k), numbers(2, k * n));
        let mut out = vec![7.0; m * stride];
        product(Matrix::new(&a, m, k), &Right::pack(Matrix::new(&b, k, n)), MatrixMut::strided(&mut out, m, n, stride), Write::Replace);
        let expected = naive(&a, &b, (m, k, n));
        for (row, wanted) in out.chunks(stride).zip(expected.chunks(n)) {
            assert!(relative_error(&row[..n], wanted) < 1e-5);
            assert!(row[n..].iter().all(|&x| x == 7.0));
        }
    }
}
