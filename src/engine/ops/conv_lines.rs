//! Convolution in AVX-512 registers without unrolling the picture: 32 neighbouring pixels of a row are a line of the right operand, and a tap
//! only moves where it starts. For a stride of 1.

use super::avx512::{self, COLUMNS};
use super::conv::Geometry;
use super::matrix::{Matrix, MatrixMut};
use std::cell::RefCell;

/// Taps between a tile's load and its store, as in a product.
const DEPTH: usize = 256;

/// Output rows `first..` as many as `out`, [out, rows·W'], has. weight: [out, in·k·k].
pub fn band(x: &[f32], geometry: Geometry, weight: &[f32], bias: &[f32], first: usize, mut out: MatrixMut) {
    thread_local!(static BAND: RefCell<Vec<f32>> = RefCell::default());
    let Geometry { inputs, kernel, out_size: (_, columns), .. } = geometry;
    let rows = out.columns() / columns;
    for (channel, &bias) in bias.iter().enumerate() {
        out.row_mut(channel).fill(bias);
    }
    BAND.with_borrow_mut(|band| {
        let (height, width) = (rows + kernel - 1, columns.next_multiple_of(COLUMNS) + kernel - 1);
        fill(band, x, geometry, first, (height, width));
        let taps = (0..inputs * kernel * kernel).map(|tap| (tap / (kernel * kernel), tap / kernel % kernel, tap % kernel));
        let offsets: Vec<usize> = taps.map(|(channel, down, across)| (channel * height + down) * width + across).collect();
        let weight = Matrix::new(weight, bias.len(), offsets.len());
        for (row, column) in (0..rows).flat_map(|row| (0..columns).step_by(COLUMNS).map(move |column| (row, column))) {
            let start = band[row * width + column..].as_ptr();
            let pixels = COLUMNS.min(columns - column);
            for depth in (0..offsets.len()).step_by(DEPTH) {
                let offsets = &offsets[depth..][..DEPTH.min(offsets.len() - depth)];
                let lines = |k: usize| start.wrapping_add(offsets[k]);
                // SAFETY: only used where there is AVX-512; the band's rows are wide enough for whole lines at every tap.
                unsafe { avx512::strip(weight, depth..depth + offsets.len(), lines, &out, (0, row * columns + column), pixels, true) };
            }
        }
    });
}

/// The rows of the picture under some output rows, with their padding: [in, height, width].
fn fill(band: &mut Vec<f32>, x: &[f32], geometry: Geometry, first: usize, (height, width): (usize, usize)) {
    let Geometry { inputs, before, size: (h, w), .. } = geometry;
    band.clear();
    band.resize(inputs * height * width, 0.0);
    for (index, line) in band.chunks_exact_mut(width).enumerate() {
        let (channel, row) = (index / height, index % height);
        let Some(y) = (first + row).checked_sub(before).filter(|&y| y < h) else { continue };
        line[before..before + w].copy_from_slice(&x[(channel * h + y) * w..][..w]);
    }
}
