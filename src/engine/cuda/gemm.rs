//! Products by cuBLASLt: sums in f32 (f32 operands multiply in f32, not tf32).

mod plan;

use super::context::Context;
use super::fp8::Fp8;
use super::kernels::{self, Finish, queued};
use super::storage::{Matrix, contiguous, uninitialised};
use super::{Arg, Out};
use candle_core::{CudaStorage, DType, Result};
use plan::{Operands, Problem};
use std::ffi::c_void;
use std::ptr::null_mut;

pub(super) use plan::Plans;

/// What a product does on its way to memory: y = activation(alpha·x·Wᵀ + bias) + (what was there, if it adds).
#[derive(Clone, Copy)]
pub struct Epilogue<'a> {
    /// Factor of the product, a LoRA scale for instance.
    pub alpha: f32,
    /// [N] in y's dtype.
    pub bias: Option<Arg<'a>>,
    /// GELU, tanh approximation, after the bias. Not together with `add`.
    pub gelu: bool,
    /// y += instead of y =.
    pub add: bool,
}

impl Default for Epilogue<'_> {
    fn default() -> Self {
        Self { alpha: 1.0, bias: None, gelu: false, add: false }
    }
}

/// x·Wᵀ. x: rows [.., K]; weight: rows [N, K] of the same dtype, bf16 or f32 → [.., N] of that dtype.
/// A small N (LoRA's x·Aᵀ) is as good as any.
pub fn linear(x: Arg, weight: Arg, epilogue: Epilogue) -> Result<CudaStorage> {
    let (rows, weight) = (Matrix::of(x, "x")?, Matrix::of(weight, "the weight")?);
    let y = uninitialised(&x.0.device, rows.count() * weight.tokens, rows.dtype)?;
    product(&x.0.device, &Matrix::fresh(&y, &rows, weight.tokens), Kind::Linear(rows, weight), epilogue)?;
    Ok(y)
}

/// The same into y: rows [.., N], which may be a slice of columns (`narrow` of the last dimension) or of tokens.
pub fn linear_into(x: Arg, weight: Arg, epilogue: Epilogue, y: Out) -> Result<()> {
    let (rows, weight) = (Matrix::of(x, "x")?, Matrix::of(weight, "the weight")?);
    product(&x.0.device, &Matrix::of_output(&y, "y")?, Kind::Linear(rows, weight), epilogue)
}

/// fp8 e4m3 with a scale per row of x and per row of W (an output channel), into bf16. On GPUs whose cuBLASLt has no such scaling, the
/// product is unscaled and a kernel of ours scales it. K and N: multiples of 16.
///
/// # Errors
/// A GPU without fp8, which is one below compute capability 8.9.
pub fn linear_fp8(x: Fp8, weight: Fp8, epilogue: Epilogue) -> Result<CudaStorage> {
    let (rows, matrix) = (Matrix::of(x.data, "x")?, Matrix::of(weight.data, "the weight")?);
    let y = uninitialised(&x.data.0.device, rows.count() * matrix.tokens, DType::BF16)?;
    linear_fp8_to(&Matrix::fresh(&y, &rows, matrix.tokens), x, weight, epilogue)?;
    Ok(y)
}

/// The same into y: rows [.., N] bf16.
pub fn linear_fp8_into(x: Fp8, weight: Fp8, epilogue: Epilogue, y: Out) -> Result<()> {
    linear_fp8_to(&Matrix::of_output(&y, "y")?, x, weight, epilogue)
}

/// dX = alpha·g·W. g: rows [.., N]; weight: rows [N, K] → [.., K].
pub fn input_gradient(g: Arg, weight: Arg, alpha: f32) -> Result<CudaStorage> {
    let (rows, weight) = (Matrix::of(g, "g")?, Matrix::of(weight, "the weight")?);
    let dx = uninitialised(&g.0.device, rows.count() * weight.width, rows.dtype)?;
    let to = Matrix::fresh(&dx, &rows, weight.width);
    product(&g.0.device, &to, Kind::InputGradient(rows, weight), Epilogue { alpha, ..Epilogue::default() })?;
    Ok(dx)
}

/// The same into dx: rows [.., K], adding to it if `add`.
pub fn input_gradient_into(g: Arg, weight: Arg, alpha: f32, add: bool, dx: Out) -> Result<()> {
    let kind = Kind::InputGradient(Matrix::of(g, "g")?, Matrix::of(weight, "the weight")?);
    product(&g.0.device, &Matrix::of_output(&dx, "dx")?, kind, Epilogue { alpha, add, ..Epilogue::default() })
}

/// dW = alpha·gᵀ·x over all rows, in f32. g: rows [.., N]; x: rows [.., K], of one dtype → [N, K] f32.
pub fn weight_gradient(g: Arg, x: Arg, alpha: f32) -> Result<CudaStorage> {
    let (g_rows, x_rows) = (Matrix::of(g, "g")?, Matrix::of(x, "x")?);
    let dw = uninitialised(&g.0.device, g_rows.width * x_rows.width, DType::F32)?;
    let to = Matrix { batch: 1, tokens: g_rows.width, ..Matrix::fresh(&dw, &x_rows, x_rows.width) };
    product(&g.0.device, &to, Kind::WeightGradient(g_rows, x_rows), Epilogue { alpha, ..Epilogue::default() })?;
    Ok(dw)
}

/// The same into dw: rows [N, K] f32, adding to it if `add`.
pub fn weight_gradient_into(g: Arg, x: Arg, alpha: f32, add: bool, dw: Out) -> Result<()> {
    let kind = Kind::WeightGradient(Matrix::of(g, "g")?, Matrix::of(x, "x")?);
    product(&g.0.device, &Matrix::of_output(&dw, "dw")?, kind, Epilogue { alpha, add, ..Epilogue::default() })
}

/// The three products of a linear layer, with their operands.
#[derive(Clone, Copy)]
enum Kind {
    /// x [M, K]·(weight [N, K])ᵀ
    Linear(Matrix, Matrix),
    /// g [M, N]·weight [N, K]
    InputGradient(Matrix, Matrix),
    /// (g [M, N])ᵀ·x [M, K]
    WeightGradient(Matrix, Matrix),
}

impl Kind {
    fn operands(&self) -> [&Matrix; 2] {
        let (Self::Linear(left, right) | Self::InputGradient(left, right) | Self::WeightGradient(left, right)) = self;
        [left, right]
    }

    /// (rows, columns) of the result and the length of its sums.
    fn sizes(&self) -> [usize; 3] {
        match self {
            Self::Linear(x, weight) => [x.count(), weight.count(), x.width],
            Self::InputGradient(g, weight) => [g.count(), weight.width, g.width],
            Self::WeightGradient(g, x) => [g.width, x.width, g.count()],
        }
    }

    /// The two lengths that have to be equal.
    fn inner(&self) -> [usize; 2] {
        match self {
            Self::Linear(x, weight) => [x.width, weight.width],
            Self::InputGradient(g, weight) => [g.width, weight.count()],
            Self::WeightGradient(g, x) => [g.count(), x.count()],
        }
    }

    /// cuBLAS' column-major view: the right operand is its A, the left one its B, and what is transposed here is not there.
    fn transposed(&self) -> (bool, bool) {
        match self {
            Self::Linear(..) => (true, false),
            Self::InputGradient(..) => (false, false),
            Self::WeightGradient(..) => (false, true),
        }
    }

    /// The same product for one picture at a time, where rows do not continue evenly from picture to picture.
    fn of_picture(&self, picture: usize) -> Self {
        match self {
            Self::Linear(x, weight) => Self::Linear(x.of_picture(picture), *weight),
            Self::InputGradient(g, weight) => Self::InputGradient(g.of_picture(picture), *weight),
            Self::WeightGradient(g, x) => Self::WeightGradient(g.of_picture(picture), x.of_picture(picture)),
        }
    }
}

fn product(device: &candle_core::CudaDevice, y: &Matrix, kind: Kind, epilogue: Epilogue) -> Result<()> {
    let [left, right] = kind.operands();
    if left.dtype != right.dtype || !matches!(left.dtype, DType::BF16 | DType::F32) {
        candle_core::bail!("a product of {:?} and {:?}: both must be bf16, or both f32", left.dtype, right.dtype);
    }
    let expected = if matches!(kind, Kind::WeightGradient(..)) { DType::F32 } else { left.dtype };
    check(y, &kind, expected, epilogue)?;
    let context = Context::of(device)?;
    let bias = epilogue.bias.map(|bias| contiguous(bias, y.dtype, y.width, "a bias")).transpose()?.unwrap_or(null_mut());
    for_each_picture(y, &kind, |kind, y, first| {
        let add = epilogue.add || (first > 0 && matches!(kind, Kind::WeightGradient(..)));
        let mut plans = context.gemm();
        let finish = Fused { alpha: epilogue.alpha, bias, gelu: epilogue.gelu, add, scales: None };
        if plans.run(&context, &problem(kind, y, &finish), &operands(kind, y, &finish))? {
            return Ok(());
        }
        // Without the epilogue, and then what the epilogue would have done.
        let plain = Fused { bias: null_mut(), gelu: false, ..finish };
        if !plans.run(&context, &problem(kind, y, &plain), &operands(kind, y, &plain))? {
            candle_core::bail!("cuBLASLt has no product for {:?} of {:?}", kind.sizes(), y.dtype);
        }
        let finish = Finish { row_scale: null_mut(), column_scale: null_mut(), bias, gelu: i32::from(epilogue.gelu), add: 0 };
        finish_product(&context, y, y, finish)
    })
}

fn linear_fp8_to(y: &Matrix, x: Fp8, weight: Fp8, epilogue: Epilogue) -> Result<()> {
    let context = Context::of(&x.data.0.device)?;
    let (rows, matrix) = (Matrix::of(x.data, "x")?, Matrix::of(weight.data, "the weight")?);
    if rows.dtype != DType::F8E4M3 || matrix.dtype != DType::F8E4M3 || !rows.width.is_multiple_of(16) || !matrix.count().is_multiple_of(16)
    {
        candle_core::bail!("an fp8 product takes F8E4M3 rows and weights, in and out features multiples of 16");
    }
    let kind = Kind::Linear(rows, matrix);
    check(y, &kind, DType::BF16, epilogue)?;
    contiguous(x.data, DType::F8E4M3, rows.elements(), "x")?;
    let row_scale: *mut f32 = contiguous(x.scale, DType::F32, rows.count(), "x's scale")?.cast();
    let column_scale: *mut f32 = contiguous(weight.scale, DType::F32, matrix.count(), "the weight's scale")?.cast();
    let bias = epilogue.bias.map(|bias| contiguous(bias, y.dtype, y.width, "a bias")).transpose()?.unwrap_or(null_mut());
    for_each_picture(y, &kind, |kind, y, first| {
        let row_scale = row_scale.wrapping_add(first);
        let scales = Some([column_scale.cast(), row_scale.cast()]);
        let fused = Fused { alpha: epilogue.alpha, bias, gelu: epilogue.gelu, add: epilogue.add, scales };
        if context.gemm().run(&context, &problem(kind, y, &fused), &operands(kind, y, &fused))? {
            return Ok(());
        }
        let finish = Finish { row_scale, column_scale, bias, gelu: i32::from(epilogue.gelu), add: i32::from(epilogue.add) };
        unscaled_fp8(&context, kind, y, epilogue.alpha, finish)
    })
}

/// The product without scales into fresh memory, and from there into y.
fn unscaled_fp8(context: &Context, kind: &Kind, y: &Matrix, alpha: f32, finish: Finish) -> Result<()> {
    let fresh = uninitialised(&context.device, y.elements(), y.dtype)?;
    let between = Matrix::fresh(&fresh, y, y.width);
    let plain = Fused { alpha, bias: null_mut(), gelu: false, add: false, scales: None };
    if !context.gemm().run(context, &problem(kind, &between, &plain), &operands(kind, &between, &plain))? {
        candle_core::bail!("this GPU has no fp8 products (compute capability 8.9 or above has): load the model in bf16 or NF4");
    }
    finish_product(context, &between, y, finish)
}

fn finish_product(context: &Context, from: &Matrix, to: &Matrix, finish: Finish) -> Result<()> {
    const NAME: &str = "finish_product";
    to.fit_registers(NAME)?;
    // SAFETY: from and to have the same shape, and the factors and the bias one number for each of its rows or columns.
    queued(
        unsafe { kernels::atelier_finish_product(from.shape(from.vector() && to.vector())?, from.view, to.view, finish, context.stream()) },
        NAME,
    )
}

fn check(y: &Matrix, kind: &Kind, dtype: DType, epilogue: Epilogue) -> Result<()> {
    let ([rows, columns, _], [left, right]) = (kind.sizes(), kind.inner());
    if left != right {
        candle_core::bail!("a product whose sums are {left} long on one side and {right} on the other");
    }
    if (y.count(), y.width, y.dtype) != (rows, columns, dtype) {
        candle_core::bail!("a product of [{rows}, {columns}] {dtype:?} into [{}, {}] {:?}", y.count(), y.width, y.dtype);
    }
    if epilogue.add && epilogue.gelu {
        candle_core::bail!("a product either adds or goes through GELU");
    }
    Ok(())
}

/// Calls `run(kind, y, first row)` once, if all rows are evenly spaced, else once for each picture.
fn for_each_picture(y: &Matrix, kind: &Kind, mut run: impl FnMut(&Kind, &Matrix, usize) -> Result<()>) -> Result<()> {
    if y.elements() == 0 || kind.sizes()[2] == 0 {
        candle_core::bail!("an empty product of {:?}", kind.sizes());
    }
    let [left, right] = kind.operands();
    let sums_over_rows = matches!(kind, Kind::WeightGradient(..));
    let other = if sums_over_rows { right } else { y };
    if left.even() && other.even() {
        return run(kind, y, 0);
    }
    if (left.batch, left.tokens) != (other.batch, other.tokens) {
        candle_core::bail!(
            "unevenly spaced rows, [{}, {}] and [{}, {}]: make one contiguous",
            left.batch,
            left.tokens,
            other.batch,
            other.tokens
        );
    }
    for picture in 0..left.batch {
        let y = if sums_over_rows { *y } else { y.of_picture(picture) };
        run(&kind.of_picture(picture), &y, picture * left.tokens)?;
    }
    Ok(())
}

impl Matrix {
    /// Whether a picture's rows go on where the last picture's ended.
    fn even(&self) -> bool {
        self.batch == 1 || self.view.batch_stride == self.tokens as i64 * self.view.row_stride
    }

    fn of_picture(&self, picture: usize) -> Self {
        let bytes = picture * self.view.batch_stride as usize * self.dtype.size_in_bytes();
        Self { batch: 1, view: kernels::View { data: self.view.data.wrapping_byte_add(bytes), ..self.view }, ..*self }
    }
}

/// What is done within the product.
#[derive(Clone, Copy)]
struct Fused {
    alpha: f32,
    bias: *mut c_void,
    gelu: bool,
    add: bool,
    /// Of cuBLAS' A and B.
    scales: Option<[*mut c_void; 2]>,
}

fn problem(kind: &Kind, y: &Matrix, fused: &Fused) -> Problem {
    let ([rows, columns, inner], [left, right]) = (kind.sizes(), kind.operands());
    let (transpose_a, transpose_b) = kind.transposed();
    // cuBLASLt reads no further than the alignments that its kernels use.
    let alignment = |matrix: &Matrix| 1 << (matrix.view.data as usize).trailing_zeros().min(8);
    Problem {
        m: columns as u64,
        n: rows as u64,
        k: inner as u64,
        transpose_a,
        transpose_b,
        strides: [right, left, y].map(Matrix::stride),
        alignments: [right, left, y].map(alignment),
        input: left.dtype,
        output: y.dtype,
        bias: !fused.bias.is_null(),
        gelu: fused.gelu,
        add: fused.add,
        scaled: fused.scales.is_some(),
    }
}

impl Matrix {
    /// From row to row; a single row has none of its own.
    fn stride(&self) -> i64 {
        if self.count() == 1 { self.width as i64 } else { self.view.row_stride }
    }
}

fn operands(kind: &Kind, y: &Matrix, fused: &Fused) -> Operands {
    let [left, right] = kind.operands();
    Operands {
        a: right.view.data,
        b: left.view.data,
        d: y.view.data,
        alpha: fused.alpha,
        bias: fused.bias,
        scales: fused.scales.unwrap_or([null_mut(); 2]),
    }
}
