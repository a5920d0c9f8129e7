//! Convolution on AMX tiles without unrolling the picture: a tile's rows are 16 neighbouring pixels, and a tap only moves where it starts.

use super::amx::{BLOCK, DEPTH, Line, ROWS, Right, Tile, Walk, split_tile, store_turned, with_tiles};
use super::conv::Geometry;
use super::matrix::{Matrix, MatrixMut};
use std::cell::RefCell;

/// The kernel as right operand, [taps · channels in whole blocks of 32, out].
pub fn pack(weight: &[f32], outputs: usize, inputs: usize, kernel: usize, exact: bool) -> Right {
    let (taps, blocks) = (kernel * kernel, inputs.div_ceil(DEPTH));
    let inner = taps * blocks * DEPTH;
    let mut turned = vec![0.0; outputs * inner];
    for (index, &value) in weight.iter().enumerate() {
        let (out, channel, tap) = (index / taps / inputs, index / taps % inputs, index % taps);
        turned[out * inner + tap * blocks * DEPTH + channel] = value;
    }
    Right::pack(Matrix::new(&turned, outputs, inner).t(), exact)
}

/// Some rows of a picture with their padding, a line of 32 channels a pixel: [hi and lo, blocks of channels, rows, columns].
#[derive(Default)]
struct Band {
    lines: Vec<Line>,
    blocks: usize,
    rows: usize,
    columns: usize,
}

/// Output rows `first..` as many as `out`, [out, rows·W'], has.
pub fn band(x: &[f32], geometry: Geometry, right: &Right, bias: &[f32], first: usize, out: MatrixMut) {
    thread_local!(static BAND: RefCell<Band> = RefCell::default());
    BAND.with_borrow_mut(|band| {
        let columns = geometry.out_size.1;
        let rows = out.columns() / columns;
        band.fill(x, geometry, first, rows);
        let offsets = band.offsets(geometry.kernel);
        with_tiles(|tiles| {
            for row in 0..rows {
                for column in (0..columns).step_by(BLOCK) {
                    let walk = band.walk(row, column, geometry.stride, &offsets);
                    for channel in (0..bias.len()).step_by(BLOCK) {
                        let mut block = [Tile::ZERO; 4];
                        // SAFETY: `fill` made the band wide enough for whole blocks of pixels.
                        unsafe { tiles.whole_block(&walk, right, channel, &mut block) };
                        let count = (BLOCK.min(bias.len() - channel), BLOCK.min(columns - column));
                        // SAFETY: tiles are only used where `available` said yes, which covers AVX-512.
                        unsafe { store_turned(&block, &bias[channel..], &out, (channel, row * columns + column), count) };
                    }
                }
            }
        });
    });
}

impl Band {
    fn fill(&mut self, x: &[f32], geometry: Geometry, first: usize, rows: usize) {
        let Geometry { inputs, kernel, stride, before, size: (h, w), out_size } = geometry;
        self.blocks = inputs.div_ceil(DEPTH);
        self.rows = (rows - 1) * stride + kernel;
        self.columns = ((out_size.1.next_multiple_of(BLOCK) - 1) * stride + kernel).max(w + before);
        self.lines.clear();
        self.lines.resize(2 * self.blocks * self.rows * self.columns, Line::ZERO);
        for row in 0..self.rows {
            let Some(y) = (first * stride + row).checked_sub(before).filter(|&y| y < h) else { continue };
            // [pixels of this row, channels]
            let pixels = Matrix::strided(&x[y * w..], inputs, w, h * w).t();
            for (block, start) in (0..self.blocks).flat_map(|block| (0..w).step_by(ROWS).map(move |start| (block, start))) {
                let mut pair = [Tile::ZERO; 2];
                // SAFETY: tiles are only used where `available` said yes, which covers AVX-512.
                unsafe { split_tile(pixels, start, block * DEPTH, false, &mut pair) };
                let count = ROWS.min(w - start);
                for (part, tile) in pair.iter().enumerate() {
                    let at = ((part * self.blocks + block) * self.rows + row) * self.columns + before + start;
                    self.lines[at..at + count].copy_from_slice(&tile.0[..count]);
                }
            }
        }
    }

    /// Where each tap and block of channels starts, in bytes, in the order of [`pack`].
    fn offsets(&self, kernel: usize) -> Vec<usize> {
        let step = |tap: usize, block: usize| ((block * self.rows + tap / kernel) * self.columns + tap % kernel) * size_of::<Line>();
        (0..kernel * kernel).flat_map(|tap| (0..self.blocks).map(move |block| step(tap, block))).collect()
    }

    fn walk<'a>(&'a self, row: usize, column: usize, stride: usize, offsets: &'a [usize]) -> Walk<'a> {
        Walk {
            start: self.lines[(row * self.columns + column) * stride..].as_ptr().cast(),
            row_stride: stride * size_of::<Line>(),
            second_tile: ROWS * stride * size_of::<Line>(),
            low_part: self.blocks * self.rows * self.columns * size_of::<Line>(),
            offsets,
        }
    }
}
