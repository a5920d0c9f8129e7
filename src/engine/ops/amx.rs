//! Products on AMX tiles: pairs of bf16 multiplied, f32 accumulated.
//!
//! An f32 operand is split in two bf16 parts, x = hi + lo with an error of 2⁻¹⁷ relative, so that products keep the quality of f32
//! at several times its speed. A weight that is bf16 to begin with needs its one part only.
//! Tiles are 16 rows of 64 bytes (Intel 64 Architectures Software Developer's Manual, volume 1, chapter 18).

use super::matrix::{Matrix, MatrixMut};
use std::{arch::asm, arch::x86_64::*, cell::RefCell, sync::OnceLock};

/// Rows of a tile; also its columns in f32 and its pairs of bf16.
pub const ROWS: usize = 16;
/// Inner length that one tile covers, in bf16.
pub const DEPTH: usize = 32;
/// Rows and columns of the output that one kernel call makes: two tiles each way.
pub const BLOCK: usize = 2 * ROWS;

/// A row of a tile: 16 pairs of bf16, or 16 f32.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Line([u32; ROWS]);

impl Line {
    pub const ZERO: Self = Self([0; ROWS]);
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Tile(pub [Line; ROWS]);

const TILE_BYTES: usize = size_of::<Tile>();

impl Tile {
    pub const ZERO: Self = Self([Line::ZERO; ROWS]);
}

/// Whether this CPU has AMX for bf16 and the kernel lets this process use it. Linux gives the tile registers to a process that asks for them.
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| super::simd::has_avx512() && is_x86_feature_detected!("avx512bf16") && cpu_has_tiles() && tiles_granted())
}

/// cpuid leaf 7: amx-bf16 and amx-tile.
fn cpu_has_tiles() -> bool {
    let features = __cpuid_count(7, 0).edx;
    features & (1 << 22) != 0 && features & (1 << 24) != 0
}

#[cfg(target_os = "linux")]
fn tiles_granted() -> bool {
    const ARCH_REQ_XCOMP_PERM: i32 = 0x1023;
    const XFEATURE_XTILEDATA: i32 = 18;
    // SAFETY: this call of arch_prctl takes two integers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn tiles_granted() -> bool {
    false
}

/// The left operand in both parts: for each 16 rows and each 32 of the inner length, a tile of hi and a tile of lo.
#[derive(Default)]
pub struct Left {
    tiles: Vec<Tile>,
    offsets: Vec<usize>,
}

impl Left {
    pub fn pack(&mut self, matrix: Matrix) {
        let steps = matrix.columns.div_ceil(DEPTH);
        self.offsets.clear();
        self.offsets.extend((0..steps).map(|step| step * 2 * TILE_BYTES));
        // An even number of row tiles: the kernel takes two.
        self.tiles.resize(matrix.rows.div_ceil(BLOCK) * 2 * steps * 2, Tile::ZERO);
        for (index, pair) in self.tiles.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let (row, column) = (index / steps * ROWS, index % steps * DEPTH);
            // SAFETY: `Left` is only packed where `available` said yes, which covers AVX-512.
            unsafe { split_tile(matrix, row, column, false, pair) };
        }
    }

    /// Where the kernel finds rows `32·block..`.
    fn walk(&self, block: usize) -> Walk<'_> {
        let row_tile = self.offsets.len() * 2 * TILE_BYTES;
        Walk {
            start: self.tiles.as_ptr().cast::<u8>().wrapping_add(block * 2 * row_tile),
            row_stride: 64,
            second_tile: row_tile,
            low_part: TILE_BYTES,
            offsets: &self.offsets,
        }
    }
}

/// The right operand: for each 32 columns and each 32 of the inner length, two tiles of hi and, unless it is bf16 by nature, two of lo.
#[derive(Clone)]
pub struct Right {
    tiles: Vec<Tile>,
    steps: usize,
    columns: usize,
    parts: usize,
}

impl Right {
    /// `exact`: every value is a bf16 value, so that lo would be 0.
    pub fn pack(matrix: Matrix, exact: bool) -> Self {
        let (steps, parts) = (matrix.rows.div_ceil(DEPTH), if exact { 1 } else { 2 });
        let groups = matrix.columns.div_ceil(BLOCK) * steps;
        let mut tiles = Vec::with_capacity(groups * 2 * parts);
        // A tile of the right operand is the tile of its transpose, turned: pairs run down the rows.
        let transposed = matrix.t();
        for index in 0..groups {
            let (column, row) = (index / steps * BLOCK, index % steps * DEPTH);
            let mut halves = [[Tile::ZERO; 2]; 2];
            for (half, pair) in halves.iter_mut().enumerate() {
                // SAFETY: `Right` is only packed where `available` said yes, which covers AVX-512.
                unsafe { split_tile(transposed, column + half * ROWS, row, true, pair) };
            }
            let [[first_high, first_low], [second_high, second_low]] = &halves;
            tiles.extend([first_high, second_high, first_low, second_low].into_iter().take(2 * parts));
        }
        Self { tiles, steps, columns: matrix.columns, parts }
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The tiles of 32 columns from `column` on.
    fn panel(&self, column: usize) -> &[Tile] {
        let size = self.steps * 2 * self.parts;
        &self.tiles[column / BLOCK * size..][..size]
    }

    /// The first part as it was given, [rows, columns]; all of it if the matrix was exact.
    pub fn unpack(&self, rows: usize) -> Vec<f32> {
        let value = |row: usize, column: usize| {
            let group = (column / BLOCK * self.steps + row / DEPTH) * 2 * self.parts;
            let word = |part: usize| {
                let tile = &self.tiles[group + part * 2 + column % BLOCK / ROWS];
                let pair = tile.0[row % DEPTH / 2].0[column % ROWS];
                f32::from_bits(if row % 2 == 0 { pair << 16 } else { pair & 0xffff_0000 })
            };
            (0..self.parts).map(word).sum()
        };
        (0..rows).flat_map(|row| (0..self.columns).map(move |column| (row, column))).map(|(row, column)| value(row, column)).collect()
    }

    pub fn is_exact(&self) -> bool {
        self.parts == 1
    }
}

/// Where the kernel finds two row tiles of the left operand, both parts, step by step along the inner length. Distances in bytes.
pub struct Walk<'a> {
    pub start: *const u8,
    pub row_stride: usize,
    pub second_tile: usize,
    pub low_part: usize,
    pub offsets: &'a [usize],
}

/// out = left · right[.., column..], or out += where `accumulate`. `column` is a multiple of 32.
pub fn product(left: Matrix, right: &Right, column: usize, out: MatrixMut, accumulate: bool) {
    thread_local!(static SCRATCH: RefCell<Left> = RefCell::default());
    assert!(left.columns.div_ceil(DEPTH) == right.steps && left.rows == out.rows() && column.is_multiple_of(BLOCK));
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.pack(left);
        with_tiles(|tiles| {
            for first_column in (0..out.columns()).step_by(BLOCK) {
                for block in 0..out.rows().div_ceil(BLOCK) {
                    // SAFETY: the walk stays inside the tiles that `pack` has just made.
                    unsafe {
                        tiles.block(&scratch.walk(block), right, column + first_column, &out, (block * BLOCK, first_column), accumulate)
                    };
                }
            }
        });
    });
}

/// The tile registers, configured; made by [`with_tiles`] only.
pub struct Tiles(());

/// Configures this thread's tile registers for `work` and gives them up after it, so that a switch of threads need not save them.
pub fn with_tiles(work: impl FnOnce(&Tiles)) {
    #[repr(C, align(64))]
    struct Configuration {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }
    struct Release;
    impl Drop for Release {
        fn drop(&mut self) {
            // SAFETY: `with_tiles` is only called where `available` said yes.
            unsafe { asm!("tilerelease", options(nostack, nomem)) };
        }
    }
    let mut configuration = Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
    configuration.row_bytes[..8].fill(64);
    configuration.rows[..8].fill(ROWS as u8);
    // SAFETY: `with_tiles` is only called where `available` said yes; the configuration is 64 valid bytes.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &configuration, options(nostack, readonly)) };
    let _release = Release;
    work(&Tiles(()));
}

impl Tiles {
    /// The 32 × 32 block of `out` at `at`, or as much of it as lies inside, from the columns of `right` that start at `column`.
    ///
    /// # Safety
    /// Every tile that `walk` names must be readable.
    unsafe fn block(&self, walk: &Walk, right: &Right, column: usize, out: &MatrixMut, at: (usize, usize), accumulate: bool) {
        let (rows, columns) = (BLOCK.min(out.rows() - at.0), BLOCK.min(out.columns() - at.1));
        if rows == BLOCK && columns == BLOCK {
            // SAFETY: the block lies inside `out`; the caller vouches for `walk`.
            return unsafe { kernel(walk, right.panel(column), right.parts, out.at(at.0, at.1), out.stride(), accumulate) };
        }
        let mut whole = [Tile::ZERO; 4];
        let corner = whole.as_mut_ptr().cast::<f32>();
        if accumulate {
            for row in 0..rows {
                // SAFETY: both are `columns` ≤ 32 values of a row < 32, of `out` and of `whole`, which do not overlap.
                unsafe { out.at(at.0 + row, at.1).copy_to_nonoverlapping(corner.add(row * BLOCK), columns) };
            }
        }
        // SAFETY: `whole` is 32 × 32 f32; the caller vouches for `walk`.
        unsafe { kernel(walk, right.panel(column), right.parts, corner, BLOCK, accumulate) };
        for row in 0..rows {
            // SAFETY: as above.
            unsafe { corner.add(row * BLOCK).copy_to_nonoverlapping(out.at(at.0 + row, at.1), columns) };
        }
    }

    /// A 32 × 32 block of f32 by rows, from the columns of `right` that start at `column`.
    ///
    /// # Safety
    /// Every tile that `walk` names must be readable.
    pub unsafe fn whole_block(&self, walk: &Walk, right: &Right, column: usize, out: &mut [Tile; 4]) {
        // SAFETY: four tiles are 32 × 32 f32; the caller vouches for `walk`.
        unsafe { kernel(walk, right.panel(column), right.parts, out.as_mut_ptr().cast(), BLOCK, false) };
    }
}

/// A 32 × 32 block: per step hi·hi, lo·hi and, where the right operand has a second part, hi·lo. lo·lo is below what the split keeps.
///
/// # Safety
/// Tiles are configured, `walk` names readable tiles, `right` holds `parts · 2` tiles a step, and `out` is 32 rows of 32 f32, `stride` f32 apart.
unsafe fn kernel(walk: &Walk, right: &[Tile], parts: usize, out: *mut f32, stride: usize, accumulate: bool) {
    debug_assert_eq!(right.len(), walk.offsets.len() * parts * 2);
    // What the loop reads through memory: there are not registers enough.
    let fixed = [walk.start as usize, walk.second_tile, walk.low_part, usize::from(parts == 2), usize::from(accumulate)];
    // SAFETY: the caller vouches for the memory; tmm0 to tmm7 are declared.
    unsafe {
        asm!(
            "lea {lower}, [{out} + {out_stride} * 8]",
            "lea {lower}, [{lower} + {out_stride} * 8]",
            "cmp qword ptr [{fixed} + 32], 0",
            "je 20f",
            "tileloadd tmm0, [{out} + {out_stride}]",
            "tileloadd tmm1, [{out} + {out_stride} + 64]",
            "tileloadd tmm2, [{lower} + {out_stride}]",
            "tileloadd tmm3, [{lower} + {out_stride} + 64]",
            "jmp 30f",
            "20:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "30:",
            "mov {left}, [{offsets}]",
            "add {left}, [{fixed}]",
            "mov {second}, [{fixed} + 8]",
            "add {second}, {left}",
            // hi · hi
            "tileloadd tmm6, [{right} + {line}]",
            "tileloadd tmm4, [{left} + {row_stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{right} + {line} + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{second} + {row_stride}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "cmp qword ptr [{fixed} + 24], 0",
            "je 40f",
            // hi · lo
            "tileloadd tmm6, [{right} + {line} + 2048]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tileloadd tmm7, [{right} + {line} + 3072]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm6, [{right} + {line}]",
            "tileloadd tmm7, [{right} + {line} + 1024]",
            "add {right}, 2048",
            "40:",
            // lo · hi
            "add {left}, [{fixed} + 16]",
            "add {second}, [{fixed} + 16]",
            "tileloadd tmm4, [{left} + {row_stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{second} + {row_stride}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {right}, 2048",
            "add {offsets}, 8",
            "dec {steps}",
            "jnz 30b",
            "tilestored [{out} + {out_stride}], tmm0",
            "tilestored [{out} + {out_stride} + 64], tmm1",
            "tilestored [{lower} + {out_stride}], tmm2",
            "tilestored [{lower} + {out_stride} + 64], tmm3",
            fixed = in(reg) fixed.as_ptr(),
            row_stride = in(reg) walk.row_stride,
            offsets = inout(reg) walk.offsets.as_ptr() => _,
            steps = inout(reg) walk.offsets.len() => _,
            right = inout(reg) right.as_ptr() => _,
            out = in(reg) out,
            out_stride = in(reg) stride * size_of::<f32>(),
            line = in(reg) 64usize,
            lower = out(reg) _,
            left = out(reg) _,
            second = out(reg) _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Tiles of hi and lo from 16 rows and 32 columns of `matrix` at (row, column), zero beyond its edge. `turned` swaps the tile's rows and pairs.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub fn split_tile(matrix: Matrix, row: usize, column: usize, turned: bool, tiles: &mut [Tile; 2]) {
    let rows = ROWS.min(matrix.rows.saturating_sub(row));
    let columns = DEPTH.min(matrix.columns - column);
    let along_rows = matrix.column_stride == 1;
    let mut high = [_mm512_setzero_si512(); ROWS];
    let mut low = high;
    if along_rows {
        for r in 0..rows {
            let source = matrix.from(row + r, column);
            (high[r], low[r]) = split(load(source, columns), load(source.get(ROWS..).unwrap_or_default(), columns.saturating_sub(ROWS)));
        }
    } else {
        assert_eq!(matrix.row_stride, 1, "a matrix runs along its rows or its columns");
        for pair in 0..columns.div_ceil(2) {
            let even = load(matrix.from(row, column + 2 * pair), rows);
            let odd = if 2 * pair + 1 < columns { load(matrix.from(row, column + 2 * pair + 1), rows) } else { _mm512_setzero_ps() };
            let (h, l) = split(even, odd);
            (high[pair], low[pair]) = (interleave(h), interleave(l));
        }
    }
    if along_rows == turned {
        (high, low) = (transpose(high), transpose(low));
    }
    for (tile, lines) in tiles.iter_mut().zip([high, low]) {
        for (words, line) in tile.0.iter_mut().zip(lines) {
            // SAFETY: a line is 64 bytes, aligned.
            unsafe { _mm512_store_si512(words.0.as_mut_ptr().cast(), line) };
        }
    }
}

/// Writes a block of 32 pixels × 32 channels turned, with each channel's bias: `rows` channels of `columns` pixels into `out` at (row, column).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub fn store_turned(block: &[Tile; 4], bias: &[f32], out: &MatrixMut, (row, column): (usize, usize), (rows, columns): (usize, usize)) {
    assert!(rows <= BLOCK && columns <= BLOCK && bias.len() >= rows && row + rows <= out.rows() && column + columns <= out.columns());
    // [pixel][half of the channels]
    let line = |pixel: usize, half: usize| &block[(pixel * 2 + half) / ROWS].0[(pixel * 2 + half) % ROWS];
    for (channel, pixel) in [(0, 0), (0, ROWS), (ROWS, 0), (ROWS, ROWS)] {
        let pixels = columns.saturating_sub(pixel).min(ROWS);
        let mask = ((1u32 << pixels) - 1) as u16;
        // SAFETY: a line is 64 bytes, aligned.
        let turned = transpose(std::array::from_fn(|i| unsafe { _mm512_load_si512(line(pixel + i, channel / ROWS).0.as_ptr().cast()) }));
        for (line, channel) in turned.into_iter().zip(channel..rows) {
            let value = _mm512_add_ps(_mm512_castsi512_ps(line), _mm512_set1_ps(bias[channel]));
            if pixels > 0 {
                // SAFETY: the mask keeps to `columns`, which lie inside `out`.
                unsafe { _mm512_mask_storeu_ps(out.at(row + channel, column + pixel), mask, value) };
            }
        }
    }
}

/// The first `count` (at most 16) values, then zeros.
#[target_feature(enable = "avx512f")]
fn load(source: &[f32], count: usize) -> __m512 {
    let count = count.min(ROWS);
    let mask = ((1u32 << count) - 1) as u16;
    assert!(source.len() >= count);
    // SAFETY: masked lanes are not read, and `count` values are there.
    unsafe { _mm512_maskz_loadu_ps(mask, source.as_ptr()) }
}

/// hi and lo of 32 values, in order.
#[target_feature(enable = "avx512f,avx512bf16")]
fn split(first: __m512, second: __m512) -> (__m512i, __m512i) {
    // SAFETY: all of these types are 512 bits without invalid values.
    let bits = |x: __m512bh| unsafe { std::mem::transmute::<__m512bh, __m512i>(x) };
    let high = bits(_mm512_cvtne2ps_pbh(second, first));
    let widen = |x: __m256i| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x)));
    let rest_first = _mm512_sub_ps(first, widen(_mm512_castsi512_si256(high)));
    let rest_second = _mm512_sub_ps(second, widen(_mm512_extracti64x4_epi64::<1>(high)));
    (high, bits(_mm512_cvtne2ps_pbh(rest_second, rest_first)))
}

/// Pairs (i, 16 + i) of 32 bf16.
#[target_feature(enable = "avx512f,avx512bw")]
fn interleave(values: __m512i) -> __m512i {
    const ORDER: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 32 {
            order[i] = (i / 2 + i % 2 * 16) as u16;
            i += 1;
        }
        order
    };
    // SAFETY: `ORDER` is 64 bytes.
    let order = unsafe { _mm512_loadu_si512(ORDER.as_ptr().cast()) };
    _mm512_permutexvar_epi16(order, values)
}

/// 16 × 16 words, rows for columns: within 128-bit lanes by unpacking, then the lanes themselves.
#[target_feature(enable = "avx512f")]
fn transpose(rows: [__m512i; ROWS]) -> [__m512i; ROWS] {
    let mut quads = rows;
    for group in 0..4 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| rows[group * 4 + i]);
        let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        quads[group * 4] = _mm512_unpacklo_epi64(ab_low, cd_low);
        quads[group * 4 + 1] = _mm512_unpackhi_epi64(ab_low, cd_low);
        quads[group * 4 + 2] = _mm512_unpacklo_epi64(ab_high, cd_high);
        quads[group * 4 + 3] = _mm512_unpackhi_epi64(ab_high, cd_high);
    }
    // quads[4g + i], lane l: word 4l + i of rows 4g..4g+4. The result's row 4l + i gathers lane l of g = 0..4.
    let mut result = rows;
    for i in 0..4 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|group| quads[group * 4 + i]);
        let (even_ab, odd_ab) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
        let (even_cd, odd_cd) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
        result[i] = _mm512_shuffle_i32x4::<0x88>(even_ab, even_cd);
        result[8 + i] = _mm512_shuffle_i32x4::<0xdd>(even_ab, even_cd);
        result[4 + i] = _mm512_shuffle_i32x4::<0x88>(odd_ab, odd_cd);
        result[12 + i] = _mm512_shuffle_i32x4::<0xdd>(odd_ab, odd_cd);
    }
    result
}
