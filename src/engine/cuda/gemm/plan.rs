//! How cuBLASLt computes a product: asked once for each shape, the best of what it proposes timed and kept.

use crate::cuda::context::{Context, WORKSPACE};
use crate::cuda::storage::{base, uninitialised};
use candle_core::cuda_backend::cudarc::cublaslt::{result as lt, sys};
use candle_core::cuda_backend::cudarc::driver::sys::CUevent_flags;
use candle_core::{DType, Error, Result};
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::from_ref;

/// A product in cuBLAS' column-major terms: D [m, n] = alpha·op(A) [m, k]·op(B) [k, n] + (D, if it adds).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    pub m: u64,
    pub n: u64,
    pub k: u64,
    pub transpose_a: bool,
    pub transpose_b: bool,
    /// Of A, B and D, from column to column.
    pub strides: [i64; 3],
    /// Of A's, B's and D's first element, in bytes, at most 256.
    pub alignments: [u32; 3],
    /// Of A and B.
    pub input: DType,
    /// Of D and the bias.
    pub output: DType,
    pub bias: bool,
    pub gelu: bool,
    pub add: bool,
    /// With a scale per row of op(A) and per column of op(B).
    pub scaled: bool,
}

/// Where a product's matrices and vectors lie.
pub struct Operands {
    pub a: *mut c_void,
    pub b: *mut c_void,
    pub d: *mut c_void,
    pub alpha: f32,
    pub bias: *mut c_void,
    pub scales: [*mut c_void; 2],
}

/// What the products of a device are computed with, shape by shape; `None` where cuBLASLt knows no way.
pub struct Plans {
    handle: sys::cublasLtHandle_t,
    plans: HashMap<Problem, Option<Plan>>,
}

// SAFETY: cuBLASLt's handle and descriptors belong to no thread, and the context keeps them behind a lock.
unsafe impl Send for Plans {}

impl Plans {
    pub fn new() -> Result<Self> {
        Ok(Self { handle: lt::create_handle().map_err(Error::wrap)?, plans: HashMap::new() })
    }

    /// Queues a product. False: there is no way to compute it in one go.
    pub fn run(&mut self, context: &Context, problem: &Problem, operands: &Operands) -> Result<bool> {
        if !self.plans.contains_key(problem) {
            let plan = Plan::best(self.handle, context, problem, operands)?;
            self.plans.insert(*problem, plan);
        }
        let Some(Some(plan)) = self.plans.get(problem) else { return Ok(false) };
        plan.point_at(operands)?;
        plan.queue(self.handle, context, operands, operands.d, &plan.algorithm).map(|()| true)
    }
}

struct Plan {
    layouts: Layouts,
    add: bool,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

/// A product as cuBLASLt has it described.
struct Layouts {
    product: sys::cublasLtMatmulDesc_t,
    a: sys::cublasLtMatrixLayout_t,
    b: sys::cublasLtMatrixLayout_t,
    d: sys::cublasLtMatrixLayout_t,
}

impl Drop for Layouts {
    fn drop(&mut self) {
        // SAFETY: each was created by `Layouts::of` and is destroyed here alone. What fails now can be told to nobody.
        unsafe {
            let _ = lt::destroy_matmul_desc(self.product);
            let _ = [self.a, self.b, self.d].map(|layout| lt::destroy_matrix_layout(layout));
        }
    }
}

impl Layouts {
    fn of(problem: &Problem) -> Result<Self> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let matrix = |dtype, transposed: bool, rows: u64, columns: u64, stride| {
            let (rows, columns) = if transposed { (columns, rows) } else { (rows, columns) };
            lt::create_matrix_layout(data_type(dtype)?, rows, columns, stride).map_err(Error::wrap)
        };
        let [of_a, of_b, of_d] = problem.strides;
        let product = lt::create_matmul_desc(sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, sys::cudaDataType::CUDA_R_32F);
        let layouts = Self {
            product: product.map_err(Error::wrap)?,
            a: matrix(problem.input, problem.transpose_a, problem.m, problem.k, of_a)?,
            b: matrix(problem.input, problem.transpose_b, problem.k, problem.n, of_b)?,
            d: matrix(problem.output, false, problem.m, problem.n, of_d)?,
        };
        let operation = |transposed| i32::from(transposed); // CUBLAS_OP_N, CUBLAS_OP_T
        layouts.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &operation(problem.transpose_a))?;
        layouts.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &operation(problem.transpose_b))?;
        layouts.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue(problem))?;
        if problem.bias {
            layouts.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &data_type(problem.output)?)?;
        }
        if problem.input == DType::F8E4M3 {
            // Sums stay in the tensor cores' own accumulators; their 14 bits are far finer than fp8's 3.
            layouts.set(Attribute::CUBLASLT_MATMUL_DESC_FAST_ACCUM, &1i8)?;
        }
        if problem.scaled {
            let mode = sys::cublasLtMatmulMatrixScale_t::CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
            layouts.set(Attribute::CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &mode)?;
            layouts.set(Attribute::CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &mode)?;
        }
        Ok(layouts)
    }

    fn set<T>(&self, attribute: sys::cublasLtMatmulDescAttributes_t, value: &T) -> Result<()> {
        // SAFETY: the descriptor lives as long as self, and the value's size is its type's.
        unsafe { lt::set_matmul_desc_attribute(self.product, attribute, from_ref(value).cast(), size_of::<T>()) }.map_err(Error::wrap)
    }
}

/// Candidates take turns, so that a GPU that slows down as it warms up (by a fifth within a second of products) treats all alike.
const ROUNDS: usize = 5;
/// How often one is run in a row for its time, after once to warm up.
const REPEATS: usize = 2;
const CANDIDATES: usize = 8;

impl Plan {
    /// The fastest of what cuBLASLt proposes. Waits for the stream.
    fn best(handle: sys::cublasLtHandle_t, context: &Context, problem: &Problem, operands: &Operands) -> Result<Option<Self>> {
        // What cuBLASLt cannot describe it cannot compute: old versions know no row scales.
        let Ok(layouts) = Layouts::of(problem) else { return Ok(None) };
        let plan = Self { layouts, add: problem.add, algorithm: sys::cublasLtMatmulAlgo_t { data: [0; 8] } };
        if plan.point_at(operands).is_err() {
            return Ok(None);
        }
        let candidates = plan.candidates(handle, problem)?;
        let Some(algorithm) = plan.fastest(handle, context, problem, operands, &candidates)? else { return Ok(None) };
        Ok(Some(Self { algorithm, ..plan }))
    }

    fn candidates(&self, handle: sys::cublasLtHandle_t, problem: &Problem) -> Result<Vec<sys::cublasLtMatmulAlgo_t>> {
        let preference = Preference::of(problem)?;
        let none = sys::cublasLtMatmulHeuristicResult_t {
            algo: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
            workspaceSize: 0,
            state: sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED,
            wavesCount: 0.0,
            reserved: [0; 4],
        };
        let (mut found, mut count) = ([none; CANDIDATES], 0);
        let Layouts { product, a, b, d } = self.layouts;
        // SAFETY: descriptors and preference are alive, and `found` has room for as many as are asked for.
        let status = unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                handle,
                product,
                a,
                b,
                d,
                d,
                preference.0,
                CANDIDATES as i32,
                found.as_mut_ptr(),
                &mut count,
            )
        };
        if status != sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS {
            return Ok(Vec::new());
        }
        let usable = |result: &&sys::cublasLtMatmulHeuristicResult_t| result.state == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS;
        Ok(found[..count as usize].iter().filter(usable).map(|result| result.algo).collect())
    }

    /// None: all of them fail to run, whatever the heuristics said.
    fn fastest(
        &self,
        handle: sys::cublasLtHandle_t,
        context: &Context,
        problem: &Problem,
        operands: &Operands,
        candidates: &[sys::cublasLtMatmulAlgo_t],
    ) -> Result<Option<sys::cublasLtMatmulAlgo_t>> {
        // A product that adds must do so once: its candidates are tried on memory of no meaning.
        let bytes = (problem.strides[2] as usize * (problem.n as usize - 1) + problem.m as usize) * problem.output.size_in_bytes();
        // As far from a multiple of 256 bytes as the true one: not every way takes every alignment.
        let beyond = operands.d as usize % 256;
        let aside = problem.add.then(|| uninitialised(&context.device, bytes + beyond, DType::U8)).transpose()?;
        let d = aside.as_ref().map_or(operands.d, |aside| base(aside).wrapping_byte_add(beyond));
        let mut times = vec![Vec::with_capacity(ROUNDS); candidates.len()];
        for _ in 0..ROUNDS {
            for (times, candidate) in times.iter_mut().zip(candidates) {
                times.extend(self.time(handle, context, operands, d, candidate).ok());
            }
        }
        let ran = times.into_iter().zip(candidates).filter(|(times, _)| times.len() == ROUNDS);
        let fastest = ran.map(|(times, candidate)| (median(times), candidate)).min_by(|(a, _), (b, _)| a.total_cmp(b));
        Ok(fastest.map(|(_, candidate)| *candidate))
    }

    fn time(
        &self,
        handle: sys::cublasLtHandle_t,
        context: &Context,
        operands: &Operands,
        d: *mut c_void,
        candidate: &sys::cublasLtMatmulAlgo_t,
    ) -> Result<f32> {
        let stream = context.cuda_stream();
        self.queue(handle, context, operands, d, candidate)?;
        let start = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).map_err(Error::wrap)?;
        for _ in 0..REPEATS {
            self.queue(handle, context, operands, d, candidate)?;
        }
        let end = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).map_err(Error::wrap)?;
        start.elapsed_ms(&end).map_err(Error::wrap)
    }

    fn point_at(&self, operands: &Operands) -> Result<()> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        if !operands.bias.is_null() {
            self.layouts.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &operands.bias)?;
        }
        if !operands.scales[0].is_null() {
            self.layouts.set(Attribute::CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &operands.scales[0])?;
            self.layouts.set(Attribute::CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &operands.scales[1])?;
        }
        Ok(())
    }

    fn queue(
        &self,
        handle: sys::cublasLtHandle_t,
        context: &Context,
        operands: &Operands,
        d: *mut c_void,
        algorithm: &sys::cublasLtMatmulAlgo_t,
    ) -> Result<()> {
        let beta = if self.add { 1.0f32 } else { 0.0 };
        let Layouts { product, a, b, d: layout } = self.layouts;
        // SAFETY: the caller's matrices have the sizes that the layouts say, and the workspace serves one stream, in order.
        unsafe {
            lt::matmul(
                handle,
                product,
                from_ref(&operands.alpha).cast(),
                from_ref(&beta).cast(),
                operands.a,
                a,
                operands.b,
                b,
                d,
                layout,
                d,
                layout,
                algorithm,
                base(&context.workspace),
                WORKSPACE,
                context.stream().cast(),
            )
        }
        .map_err(Error::wrap)
    }
}

fn median(mut times: Vec<f32>) -> f32 {
    times.sort_by(f32::total_cmp);
    times[times.len() / 2]
}

/// What a candidate may need.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    fn of(problem: &Problem) -> Result<Self> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let preference = Self(lt::create_matmul_pref().map_err(Error::wrap)?);
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &WORKSPACE)?;
        let [a, b, d] = &problem.alignments;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, a)?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, b)?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, d)?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, d)?;
        Ok(preference)
    }

    fn set<T>(&self, attribute: sys::cublasLtMatmulPreferenceAttributes_t, value: &T) -> Result<()> {
        // SAFETY: the preference lives as long as self, and the value's size is its type's.
        unsafe { lt::set_matmul_pref_attribute(self.0, attribute, from_ref(value).cast(), size_of::<T>()) }.map_err(Error::wrap)
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: created by `of`, destroyed here alone.
        let _ = unsafe { lt::destroy_matmul_pref(self.0) };
    }
}

fn epilogue(problem: &Problem) -> sys::cublasLtEpilogue_t {
    match (problem.bias, problem.gelu) {
        (false, false) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_DEFAULT,
        (true, false) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
        (false, true) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_GELU,
        (true, true) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_GELU_BIAS,
    }
}

fn data_type(dtype: DType) -> Result<sys::cudaDataType> {
    match dtype {
        DType::BF16 => Ok(sys::cudaDataType::CUDA_R_16BF),
        DType::F32 => Ok(sys::cudaDataType::CUDA_R_32F),
        DType::F8E4M3 => Ok(sys::cudaDataType::CUDA_R_8F_E4M3),
        other => candle_core::bail!("products take bf16, f32 and fp8, not {other:?}"),
    }
}
