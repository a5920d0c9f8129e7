// AdamW with 8-bit moments over a flat buffer, and the sum of squares that clips its gradients.

#include "dynamic.cuh"
#include "rows.cuh"

namespace atelier {
namespace {

__device__ __forceinline__ float clip_factor(const AdamW8bit& of) {
    return of.sum_of_squares == nullptr ? 1.0f : fminf(1.0f, of.largest_norm / (sqrtf(*of.sum_of_squares) + 1e-6f));
}

// The step in f32, element by element as torch.optim.AdamW orders it. Nothing is contracted, so that the host's arithmetic gives the same bits.
__device__ __forceinline__ void apply(const Rule& rule, float& parameter, float& first, float& second, float gradient) {
    first = __fadd_rn(first, __fmul_rn(__fsub_rn(gradient, first), rule.new_first));
    second = __fadd_rn(__fmul_rn(second, rule.beta2), __fmul_rn(__fmul_rn(gradient, gradient), rule.new_second));
    const float root = __fadd_rn(__fdiv_rn(__fsqrt_rn(second), rule.root), rule.epsilon);
    parameter = __fsub_rn(__fmul_rn(parameter, rule.keep), __fdiv_rn(__fmul_rn(rule.rate, first), root));
}

// A block of threads takes a block of elements: moments out of their codes, the step, moments back with a fresh scale.
__global__ void __launch_bounds__(BLOCK) adamw8bit_kernel(const AdamW8bit of, const Rule rule) {
    __shared__ float codes[2][CODES];
    codes[0][threadIdx.x] = of.signed_code[threadIdx.x];
    codes[1][threadIdx.x] = of.unsigned_code[threadIdx.x];
    __syncthreads();
    const Block block = of.blocks[blockIdx.x];
    const bool own = threadIdx.x < block.length, quantised = block.full < 0;
    const int64_t index = int64_t(block.start) + threadIdx.x, full = int64_t(block.full) + threadIdx.x;
    float first = 0.0f, second = 0.0f;
    if (own) {
        if (quantised) {
            first = codes[0][of.first[index]] * of.first_scale[blockIdx.x];
            second = codes[1][of.second[index]] * of.second_scale[blockIdx.x];
        } else {
            first = of.full_first[full];
            second = of.full_second[full];
        }
        float parameter = of.parameters[index];
        apply(rule, parameter, first, second, of.gradients[index] * clip_factor(of));
        of.parameters[index] = parameter;
    }
    if (!quantised) {
        if (own) of.full_first[full] = first, of.full_second[full] = second;
        return;
    }
    float most[2] = {fabsf(first), fabsf(second)};
    over_block<Most>(most);
    if (own) {
        // A second moment above zero never becomes zero: under its square root the step would explode.
        const int code = nearest(codes[1], most[1] > 0.0f ? second / most[1] : 0.0f);
        of.first[index] = nearest(codes[0], most[0] > 0.0f ? first / most[0] : 0.0f);
        of.second[index] = second > 0.0f ? max(code, of.first_positive) : code;
    }
    if (threadIdx.x == 0) of.first_scale[blockIdx.x] = most[0], of.second_scale[blockIdx.x] = most[1];
}

constexpr int PARTIAL_SUMS = 1024;

template <class T>
__global__ void __launch_bounds__(256) partial_squares_kernel(int64_t n, const T* x, float* partial) {
    float sum[1] = {0.0f};
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
#pragma unroll 4
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) sum[0] += to_float(x[i]) * to_float(x[i]);
    over_block<Add>(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum[0];
}

__global__ void __launch_bounds__(256) add_partial_kernel(const float* partial, float* sum) {
    float of_thread[1] = {0.0f};
    for (int i = threadIdx.x; i < PARTIAL_SUMS; i += blockDim.x) of_thread[0] += partial[i];
    over_block<Add>(of_thread);
    if (threadIdx.x == 0) *sum = of_thread[0];
}

}
}

using namespace atelier;

int atelier_adamw8bit(AdamW8bit of, Rule rule, cudaStream_t stream) {
    adamw8bit_kernel<<<of.count, BLOCK, 0, stream>>>(of, rule);
    return cudaGetLastError();
}

int atelier_sum_of_squares(int64_t n, int32_t dtype, const void* x, float* partial, float* sum, cudaStream_t stream) {
    return with_dtype(dtype, [&]<class T>() -> int {
        partial_squares_kernel<<<PARTIAL_SUMS, 256, 0, stream>>>(n, static_cast<const T*>(x), partial);
        add_partial_kernel<<<1, 256, 0, stream>>>(partial, sum);
        return cudaGetLastError();
    });
}
