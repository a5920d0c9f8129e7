// One row held by one block in registers, in units of eight elements: unit u of thread t is the row's unit u·threads + t.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include "kernels.h"

namespace atelier {

using bf16 = __nv_bfloat16;

constexpr int UNIT = 8;
// Rows of up to 16384 elements: a thread holds at most four units. Three of them (FLUX's width) in blocks of 128 leave room for seven
// blocks a multiprocessor in 72 registers, and so for some 43 KB on their way.
constexpr int MOST_THREADS = 512;
constexpr int MOST_UNITS = 4;
constexpr float E4M3_MOST = 448.0f;

// 16 bytes that are read once: they leave L1 to what all rows share (shift, scale, weights).
__device__ __forceinline__ uint4 read16(const void* from) {
    uint4 v;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from));
    return v;
}

__device__ __forceinline__ void widen(uint4 raw, float* to) {
    const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        to[2 * i] = __uint_as_float(words[i] << 16);
        to[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
}

__device__ __forceinline__ void read_unit(const bf16* from, float* to) { widen(read16(from), to); }

__device__ __forceinline__ void read_unit(const float* from, float* to) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const uint4 raw = read16(from + 4 * half);
        to[4 * half] = __uint_as_float(raw.x);
        to[4 * half + 1] = __uint_as_float(raw.y);
        to[4 * half + 2] = __uint_as_float(raw.z);
        to[4 * half + 3] = __uint_as_float(raw.w);
    }
}

// A unit of what other rows read too, through L1.
template <bool VECTOR>
__device__ __forceinline__ void read_shared(const float* row, int column, int width, float* to) {
    if (VECTOR) {
        const float4* const from = reinterpret_cast<const float4*>(row + column);
        const float4 low = __ldg(from), high = __ldg(from + 1);
        to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
        to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
    } else {
#pragma unroll
        for (int i = 0; i < UNIT; i++) to[i] = column + i < width ? __ldg(row + column + i) : 0.0f;
    }
}

__device__ __forceinline__ void write_unit(bf16* to, const float* from) {
    __nv_bfloat162 pairs[4];
#pragma unroll
    for (int i = 0; i < 4; i++) pairs[i] = __floats2bfloat162_rn(from[2 * i], from[2 * i + 1]);
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(pairs);
}

__device__ __forceinline__ void write_unit(float* to, const float* from) {
    reinterpret_cast<float4*>(to)[0] = make_float4(from[0], from[1], from[2], from[3]);
    reinterpret_cast<float4*>(to)[1] = make_float4(from[4], from[5], from[6], from[7]);
}

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) { return x; }
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) { return __float2bfloat16_rn(x); }

// Calls f(unit, i, column) for each element of the row that this thread holds.
template <int UNITS, bool VECTOR, class F>
__device__ __forceinline__ void each(int width, F f) {
#pragma unroll
    for (int u = 0; u < UNITS; u++) {
        const int column = (u * blockDim.x + threadIdx.x) * UNIT;
        if (VECTOR && column >= width) continue;
#pragma unroll
        for (int i = 0; i < UNIT; i++) {
            if (VECTOR || column + i < width) f(u, i, column + i);
        }
    }
}

// The same with the values of rows that all tokens of a picture share: f(unit, i, values). They are read where they are used, from L1.
template <int UNITS, bool VECTOR, class F, class... Shared>
__device__ __forceinline__ void each_with(int width, F f, const Shared*... rows) {
#pragma unroll
    for (int u = 0; u < UNITS; u++) {
        const int column = (u * blockDim.x + threadIdx.x) * UNIT;
        if (column >= width) continue;
        float shared[sizeof...(rows)][UNIT];
        int n = 0;
        (read_shared<VECTOR>(rows, column, width, shared[n++]), ...);
#pragma unroll
        for (int i = 0; i < UNIT; i++) {
            float values[sizeof...(rows)];
#pragma unroll
            for (int row = 0; row < sizeof...(rows); row++) values[row] = shared[row][i];
            if (VECTOR || column + i < width) f(u, i, values);
        }
    }
}

template <int UNITS, bool VECTOR>
struct Row {
    float at[UNITS][UNIT];

    // What lies beyond the row is zero.
    template <class T>
    __device__ __forceinline__ void read(const T* row, int width) {
#pragma unroll
        for (int u = 0; u < UNITS; u++) {
            const int column = (u * blockDim.x + threadIdx.x) * UNIT;
            if (VECTOR && column < width) {
                read_unit(row + column, at[u]);
            } else {
#pragma unroll
                for (int i = 0; i < UNIT; i++) at[u][i] = !VECTOR && column + i < width ? to_float(row[column + i]) : 0.0f;
            }
        }
    }

    template <class T>
    __device__ __forceinline__ void write(T* row, int width) const {
#pragma unroll
        for (int u = 0; u < UNITS; u++) {
            const int column = (u * blockDim.x + threadIdx.x) * UNIT;
            if (VECTOR) {
                if (column < width) write_unit(row + column, at[u]);
            } else {
#pragma unroll
                for (int i = 0; i < UNIT; i++) {
                    if (column + i < width) row[column + i] = from_float<T>(at[u][i]);
                }
            }
        }
    }

    // Times `factor`, in e4m3.
    __device__ __forceinline__ void write_codes(uint8_t* row, int width, float factor) const {
#pragma unroll
        for (int u = 0; u < UNITS; u++) {
            const int column = (u * blockDim.x + threadIdx.x) * UNIT;
            uint32_t words[2];
#pragma unroll
            for (int i = 0; i < 2; i++) words[i] = e4m3_pair(u, 4 * i, factor) | e4m3_pair(u, 4 * i + 2, factor) << 16;
            if (VECTOR) {
                if (column < width) *reinterpret_cast<uint2*>(row + column) = make_uint2(words[0], words[1]);
            } else {
#pragma unroll
                for (int i = 0; i < UNIT; i++) {
                    if (column + i < width) row[column + i] = words[i / 4] >> i % 4 * 8;
                }
            }
        }
    }

    __device__ __forceinline__ uint32_t e4m3_pair(int u, int i, float factor) const {
        return __nv_cvt_float2_to_fp8x2(make_float2(at[u][i] * factor, at[u][i + 1] * factor), __NV_SATFINITE, __NV_E4M3);
    }
};

struct Add {
    __device__ __forceinline__ static float of(float a, float b) { return a + b; }
};
struct Most {
    __device__ __forceinline__ static float of(float a, float b) { return fmaxf(a, b); }
};

// Combines N numbers of every thread, all of them ≥ 0 where Op is Most; every thread gets the results.
template <class Op, int N>
__device__ __forceinline__ void over_block(float (&v)[N]) {
    __shared__ float of_warp[N][32];
    const auto over_warp = [](float x) {
#pragma unroll
        for (int lane = 16; lane > 0; lane /= 2) x = Op::of(x, __shfl_xor_sync(~0u, x, lane));
        return x;
    };
#pragma unroll
    for (int n = 0; n < N; n++) v[n] = over_warp(v[n]);
    if (blockDim.x == 32) return;
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
#pragma unroll
        for (int n = 0; n < N; n++) of_warp[n][threadIdx.x / 32] = v[n];
    }
    __syncthreads();
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < N; n++) v[n] = over_warp(lane < blockDim.x / 32 ? of_warp[n][lane] : 0.0f);
}

// Mean and 1/√(variance + ε) of a row, the variance about the mean.
template <int UNITS, bool VECTOR>
__device__ __forceinline__ float2 statistics(const Row<UNITS, VECTOR>& x, int width) {
    constexpr float EPSILON = 1e-6f;
    float sum[1] = {0.0f};
    each<UNITS, VECTOR>(width, [&](int u, int i, int) { sum[0] += x.at[u][i]; });
    over_block<Add>(sum);
    const float mean = sum[0] / width;
    float square[1] = {0.0f};
    each<UNITS, VECTOR>(width, [&](int u, int i, int) { square[0] += (x.at[u][i] - mean) * (x.at[u][i] - mean); });
    over_block<Add>(square);
    return make_float2(mean, 1.0f / sqrtf(square[0] / width + EPSILON));
}

// x̂·(1 + scale) + shift, in place.
template <int UNITS, bool VECTOR>
__device__ __forceinline__ void modulate(Row<UNITS, VECTOR>& x, const float* shift, const float* scale, int width) {
    const float2 about = statistics(x, width);
    const auto turn = [&](int u, int i, const float* values) {
        x.at[u][i] = (x.at[u][i] - about.x) * about.y * (1.0f + values[1]) + values[0];
    };
    each_with<UNITS, VECTOR>(width, turn, shift, scale);
}

// The scale of a row in e4m3: its largest magnitude at 448; 1 for a row of zeros.
template <int UNITS, bool VECTOR>
__device__ __forceinline__ float e4m3_scale(const Row<UNITS, VECTOR>& x, int width) {
    float most[1] = {0.0f};
    each<UNITS, VECTOR>(width, [&](int u, int i, int) { most[0] = fmaxf(most[0], fabsf(x.at[u][i])); });
    over_block<Most>(most);
    return most[0] > 0.0f ? most[0] / E4M3_MOST : 1.0f;
}

// Writes row `index` of a kernel that feeds a product.
template <class T, int UNITS, bool VECTOR>
__device__ __forceinline__ void emit(const Row<UNITS, VECTOR>& y, const Emission& to, int64_t index, int width) {
    if (to.plain != nullptr) y.write(static_cast<T*>(to.plain) + index * width, width);
    if (to.codes == nullptr) return;
    const float scale = e4m3_scale(y, width);
    y.write_codes(static_cast<uint8_t*>(to.codes) + index * width, width, 1.0f / scale);
    if (threadIdx.x == 0) to.scale[index] = scale;
}

template <class T>
__device__ __forceinline__ T* row_of(const View& view, int picture, int token) {
    return static_cast<T*>(view.data) + picture * view.batch_stride + token * view.row_stride;
}

// The one row that a picture has of a shift, a scale or a gate.
__device__ __forceinline__ const float* row_of(const View& view, int picture) {
    return static_cast<const float*>(view.data) + picture * view.batch_stride;
}

template <class Op, int UNITS, bool VECTOR>
__global__ void __launch_bounds__(UNITS < MOST_UNITS ? 128 : MOST_THREADS, UNITS < MOST_UNITS ? 7 : 1) over_rows_kernel(const Op op, const Shape shape) {
    const int picture = blockIdx.x / shape.tokens;
    op.template row<UNITS, VECTOR>(picture, blockIdx.x - picture * shape.tokens, blockIdx.x, shape.width);
}

// Calls f<UNITS, VECTOR>(threads) with a layout that holds a row in registers.
template <class F>
int with_layout(const Shape& shape, F f) {
    const int units = (shape.width + UNIT - 1) / UNIT;
    const int each = !shape.vector ? MOST_UNITS : units <= 128 ? 1 : units <= 256 ? 2 : units <= 384 ? 3 : MOST_UNITS;
    const int threads = ((units + each - 1) / each + 31) / 32 * 32;
    if (threads > MOST_THREADS) return cudaErrorInvalidValue;
    if (!shape.vector) {
        f.template operator()<MOST_UNITS, false>(threads);
    } else if (each == 1) {
        f.template operator()<1, true>(threads);
    } else if (each == 2) {
        f.template operator()<2, true>(threads);
    } else if (each == 3) {
        f.template operator()<3, true>(threads);
    } else {
        f.template operator()<MOST_UNITS, true>(threads);
    }
    return cudaGetLastError();
}

// Runs op.row<UNITS, VECTOR>(picture, token, row index, width) with a block per row.
template <class Op>
int over_rows(const Op& op, const Shape& shape, cudaStream_t stream) {
    return with_layout(shape, [&]<int UNITS, bool VECTOR>(int threads) {
        over_rows_kernel<Op, UNITS, VECTOR><<<shape.batch * shape.tokens, threads, 0, stream>>>(op, shape);
    });
}

// Calls f<float>() or f<bf16>().
template <class F>
int with_dtype(int32_t dtype, F f) {
    if (dtype == F32) return f.template operator()<float>();
    if (dtype == BF16) return f.template operator()<bf16>();
    return cudaErrorInvalidValue;
}

}
