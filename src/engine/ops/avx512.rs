//! Products of f32 matrices in AVX-512 registers, 12 rows × 32 columns at a time: for CPUs without AMX.

use super::matrix::{Matrix, MatrixMut};
use super::storage::output;
use std::{arch::x86_64::*, hint::black_box, ops::Range};

/// Rows of a tile: 24 registers of sums, which with 2 of the right operand and 1 of the left leave some of the 32.
const ROWS: usize = 12;
/// Columns of a tile: two registers.
pub const COLUMNS: usize = 32;
/// Inner length between a tile's load and its store: 32 KiB of the right operand, which the first cache holds beside 12 rows of the left.
const DEPTH: usize = 256;
/// Rows of the left operand that are reached from one pointer: x86 addresses base, base + stride and base + 2·stride.
const REACH: usize = 3;

/// The right operand: for each 32 columns its rows one after the other, the last columns filled up with zeros.
pub struct Right {
    rows: usize,
    columns: usize,
    /// [panels, rows, 32]
    panels: Vec<f32>,
}

impl Right {
    pub fn pack(matrix: Matrix) -> Self {
        let Matrix { rows, columns, .. } = matrix;
        let panels = output(columns.div_ceil(COLUMNS) * rows * COLUMNS, |panels| {
            for (panel, first) in panels.chunks_exact_mut((rows * COLUMNS).max(1)).zip((0..columns).step_by(COLUMNS)) {
                fill_panel(matrix, first, panel);
            }
        });
        Self { rows, columns, panels }
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    /// [rows, columns], as it was given.
    pub fn unpack(&self) -> Vec<f32> {
        let value = |row: usize, column: usize| self.panels[(column / COLUMNS * self.rows + row) * COLUMNS + column % COLUMNS];
        (0..self.rows).flat_map(|row| (0..self.columns).map(move |column| value(row, column))).collect()
    }

    /// The row `row` of the panel that `column` is in.
    fn line(&self, row: usize, column: usize) -> *const f32 {
        self.panels[(column / COLUMNS * self.rows + row) * COLUMNS..].as_ptr()
    }
}

/// Columns `first..first + 32` of a matrix.
fn fill_panel(matrix: Matrix, first: usize, panel: &mut [f32]) {
    let count = COLUMNS.min(matrix.columns - first);
    for (row, line) in panel.chunks_exact_mut(COLUMNS).enumerate() {
        let (source, step) = (matrix.from(row, first), matrix.column_stride);
        if step == 1 {
            line[..count].copy_from_slice(&source[..count]);
        } else {
            line.iter_mut().zip(source.iter().step_by(step)).take(count).for_each(|(to, &from)| *to = from);
        }
        line[count..].fill(0.0);
    }
}

/// out = left · right[.., column..], or out += where `add`. `column` is a multiple of 32.
pub fn product(left: Matrix, right: &Right, column: usize, out: MatrixMut, add: bool) {
    assert!(left.columns == right.rows && left.rows == out.rows() && column.is_multiple_of(COLUMNS));
    assert!(column + out.columns() <= right.columns);
    for depth in (0..left.columns).step_by(DEPTH) {
        let count = DEPTH.min(left.columns - depth);
        for first in (0..out.columns()).step_by(COLUMNS) {
            let start = right.line(depth, column + first);
            // SAFETY: `Right` is only packed where there is AVX-512; a panel has `count` lines of 32 from `start` on.
            unsafe {
                let columns = COLUMNS.min(out.columns() - first);
                strip(left, depth..depth + count, |k| start.wrapping_add(k * COLUMNS), &out, (0, first), columns, add || depth > 0)
            };
        }
    }
}

/// As many rows as `left` has and at most 32 columns of `out`, from (row, column) on: out = left[.., inner] · lines, or out += where `add`.
/// `lines(k)` is where the right operand has its row `inner.start + k`, 32 values.
///
/// # Safety
/// The CPU has AVX-512, and 32 values can be read from every line.
#[target_feature(enable = "avx512f")]
pub unsafe fn strip(
    left: Matrix,
    inner: Range<usize>,
    lines: impl Fn(usize) -> *const f32 + Copy,
    out: &MatrixMut,
    (row, column): (usize, usize),
    columns: usize,
    add: bool,
) {
    assert!(inner.end <= left.columns && row + left.rows <= out.rows() && columns <= COLUMNS && column + columns <= out.columns());
    let mask = ((1u64 << columns) - 1) as u32;
    for first in (0..left.rows).step_by(ROWS) {
        let tile = Tile {
            left: left.from(first, inner.start).as_ptr(),
            row_stride: left.row_stride,
            column_stride: left.column_stride,
            depth: inner.len(),
            out: out.at(row + first, column),
            stride: out.stride(),
            mask: [mask as u16, (mask >> 16) as u16],
            add,
        };
        let rows = ROWS.min(left.rows - first);
        // SAFETY: the rows and columns lie inside `left` and `out`, as compared above; the rest is the caller's word.
        unsafe { fill(rows, &tile, lines) };
    }
}

/// A tile of the output and the rows of the left operand that make it.
struct Tile {
    left: *const f32,
    row_stride: usize,
    column_stride: usize,
    depth: usize,
    out: *mut f32,
    stride: usize,
    /// The columns that there are, in each register.
    mask: [__mmask16; 2],
    add: bool,
}

/// The number of rows, 1 to 12, becomes a constant: only then do the sums stay in registers.
#[target_feature(enable = "avx512f")]
unsafe fn fill(rows: usize, tile: &Tile, lines: impl Fn(usize) -> *const f32) {
    macro_rules! constant {
        ($($rows:literal)*) => {
            // SAFETY: the caller's word.
            match rows { $($rows => unsafe { tile.fill::<$rows>(lines) },)* _ => unreachable!("a tile has at most {ROWS} rows") }
        };
    }
    constant!(1 2 3 4 5 6 7 8 9 10 11 12)
}

impl Tile {
    /// Plain loops over constants: adapters of iterators and arrays are not always inlined into a function with features of its own.
    #[target_feature(enable = "avx512f")]
    #[allow(clippy::needless_range_loop)]
    unsafe fn fill<const R: usize>(&self, lines: impl Fn(usize) -> *const f32) {
        let mut sums = [[_mm512_setzero_ps(); 2]; R];
        if self.add {
            for row in 0..R {
                for half in 0..2 {
                    // SAFETY: the mask leaves out what is not of `out`.
                    sums[row][half] =
                        unsafe { _mm512_maskz_loadu_ps(self.mask[half], self.out.wrapping_add(row * self.stride + half * 16)) };
                }
            }
        }
        // Four pointers that the compiler cannot derive from each other: else it walks from row to row, and each load waits for the last.
        let mut bases = [self.left; ROWS.div_ceil(REACH)];
        for base in 1..bases.len() {
            bases[base] = black_box(self.left.wrapping_add(base * REACH * self.row_stride));
        }
        for k in 0..self.depth {
            let line = lines(k);
            // SAFETY: the caller's word: 32 values a line, `depth` values in each row of the left operand.
            let (first, second) = unsafe { (_mm512_loadu_ps(line), _mm512_loadu_ps(line.wrapping_add(16))) };
            for row in 0..R {
                let x = _mm512_set1_ps(unsafe { *bases[row / REACH].wrapping_add(row % REACH * self.row_stride) });
                sums[row][0] = _mm512_fmadd_ps(x, first, sums[row][0]);
                sums[row][1] = _mm512_fmadd_ps(x, second, sums[row][1]);
            }
            for base in 0..bases.len() {
                bases[base] = bases[base].wrapping_add(self.column_stride);
            }
        }
        for row in 0..R {
            for half in 0..2 {
                // SAFETY: as above.
                unsafe { _mm512_mask_storeu_ps(self.out.wrapping_add(row * self.stride + half * 16), self.mask[half], sums[row][half]) };
            }
        }
    }
}
