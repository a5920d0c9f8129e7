// NF4 in blocks of 64, its absmax in f32 or in 8 bits.

#include "dynamic.cuh"
#include "rows.cuh"

namespace atelier {
namespace {

constexpr int NF4_BLOCK = 64;

// Quantiles of a normal distribution, from -1 to 1 (arXiv 2305.14314, appendix E).
__constant__ const float NF4[16] = {
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f, -0.18477343022823334f,
    -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
    0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};

// How many midpoints of neighbours lie below x, as a search of four steps: bitsandbytes' thresholds.
__constant__ const float MIDPOINTS[15] = {
    -0.8480964004993439f, -0.6106329262256622f, -0.4599952697753906f, -0.33967943489551544f, -0.23460740596055984f,
    -0.13791173323988914f, -0.045525018125772476f, 0.03979014977812767f, 0.1202552504837513f, 0.2035212516784668f,
    0.2920137718319893f, 0.3893125355243683f, 0.5016634166240692f, 0.6427869200706482f, 0.8614784181118011f};

__device__ __forceinline__ uint32_t nf4_code(const float* midpoints, float x) {
    uint32_t code = 0;
#pragma unroll
    for (int step = 8; step > 0; step /= 2) {
        if (x > midpoints[code + step - 1]) code += step;
    }
    return code;
}

// Eight threads hold a block of 64, eight elements each.
template <class T>
__global__ void quantise_kernel(int64_t units, const T* w, uint32_t* codes, float* absmax) {
    __shared__ float midpoints[15];
    if (threadIdx.x < 15) midpoints[threadIdx.x] = MIDPOINTS[threadIdx.x];
    __syncthreads();
    const int64_t unit = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    const bool own = unit < units;
    float x[UNIT] = {};
    if (own) read_unit(w + unit * UNIT, x);
    float most = 0.0f;
#pragma unroll
    for (int i = 0; i < UNIT; i++) most = fmaxf(most, fabsf(x[i]));
#pragma unroll
    for (int lane = 4; lane > 0; lane /= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, lane));
    if (!own) return;
    const float inverse = most > 0.0f ? 1.0f / most : 0.0f;
    uint32_t word = 0;
#pragma unroll
    for (int i = 0; i < UNIT; i++) word |= nf4_code(midpoints, x[i] * inverse) << (i / 2 * 8 + (i % 2 ? 0 : 4));
    codes[unit] = word;
    if (unit % (NF4_BLOCK / UNIT) == 0) absmax[unit / (NF4_BLOCK / UNIT)] = most;
}

constexpr int UNITS_A_THREAD = 4;

// A thread turns four words of eight codes into 16 bytes (bf16) each; neighbours in a warp write next to each other.
template <class T, bool DOUBLE>
__global__ void __launch_bounds__(256) dequantise_kernel(int64_t units, const uint32_t* codes, const Absmax absmax, T* w) {
    __shared__ float values[16];
    if (threadIdx.x < 16) values[threadIdx.x] = NF4[threadIdx.x];
    __syncthreads();
    const int64_t first = int64_t(blockIdx.x) * blockDim.x * UNITS_A_THREAD + threadIdx.x;
    const float offset = DOUBLE ? *absmax.offset : 0.0f;
    uint32_t words[UNITS_A_THREAD];
    float most[UNITS_A_THREAD];
#pragma unroll
    for (int n = 0; n < UNITS_A_THREAD; n++) {
        const int64_t unit = first + n * blockDim.x, block = unit / (NF4_BLOCK / UNIT);
        if (unit >= units) continue;
        words[n] = codes[unit];
        if constexpr (DOUBLE) {
            most[n] = __fadd_rn(__fmul_rn(__ldg(absmax.dynamic + absmax.codes[block]), __ldg(absmax.scale + block / BLOCK)), offset);
        } else {
            most[n] = absmax.plain[block];
        }
    }
#pragma unroll
    for (int n = 0; n < UNITS_A_THREAD; n++) {
        const int64_t unit = first + n * blockDim.x;
        if (unit >= units) continue;
        float x[UNIT];
#pragma unroll
        for (int i = 0; i < UNIT; i++) x[i] = values[words[n] >> (i / 2 * 8 + (i % 2 ? 0 : 4)) & 15] * most[n];
        write_unit(w + unit * UNIT, x);
    }
}

// The mean of all values, by one block, in an order that depends on n alone.
__global__ void __launch_bounds__(512) mean_kernel(int64_t n, const float* values, float* mean) {
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += values[i];
    __shared__ double sums[512];
    sums[threadIdx.x] = sum;
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) *mean = float(sums[0] / double(n));
}

__global__ void __launch_bounds__(BLOCK) dynamic_quantise_kernel(
    int64_t n, const float* values, const float* dynamic, uint8_t* codes, float* scale, const float* offset) {
    __shared__ float code[CODES];
    code[threadIdx.x] = dynamic[threadIdx.x];
    const int64_t index = int64_t(blockIdx.x) * BLOCK + threadIdx.x;
    const float x = index < n ? values[index] - *offset : 0.0f;
    float most[1] = {fabsf(x)};
    over_block<Most>(most);
    if (index < n) codes[index] = nearest(code, most[0] > 0.0f ? x / most[0] : 0.0f);
    if (threadIdx.x == 0) scale[blockIdx.x] = most[0];
}

}
}

using namespace atelier;

int atelier_nf4_quantise(int64_t n, int32_t dtype, const void* w, void* codes, float* absmax, cudaStream_t stream) {
    const int64_t units = n / UNIT;
    return with_dtype(dtype, [&]<class T>() -> int {
        quantise_kernel<<<(units + 255) / 256, 256, 0, stream>>>(units, static_cast<const T*>(w), static_cast<uint32_t*>(codes), absmax);
        return cudaGetLastError();
    });
}

int atelier_nf4_dequantise(int64_t n, int32_t dtype, const void* codes, Absmax absmax, void* w, cudaStream_t stream) {
    const int64_t units = n / UNIT, blocks = (units + 256 * UNITS_A_THREAD - 1) / (256 * UNITS_A_THREAD);
    return with_dtype(dtype, [&]<class T>() -> int {
        const auto kernel = absmax.plain == nullptr ? dequantise_kernel<T, true> : dequantise_kernel<T, false>;
        kernel<<<blocks, 256, 0, stream>>>(units, static_cast<const uint32_t*>(codes), absmax, static_cast<T*>(w));
        return cudaGetLastError();
    });
}

int atelier_dynamic_quantise(int64_t n, const float* values, const float* dynamic, uint8_t* codes, float* scale, float* offset, cudaStream_t stream) {
    mean_kernel<<<1, 512, 0, stream>>>(n, values, offset);
    dynamic_quantise_kernel<<<(n + BLOCK - 1) / BLOCK, BLOCK, 0, stream>>>(n, values, dynamic, codes, scale, offset);
    return cudaGetLastError();
}
