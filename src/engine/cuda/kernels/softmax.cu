// softmax(scale·x) of rows of any width, in place.

#include "rows.cuh"

namespace atelier {
namespace {

// Two blocks fill a multiprocessor, so that the rows at work, 32 KB each in FLUX's VAE, stay in the L2 cache between their two passes.
constexpr int THREADS = 1024;

// The largest of some numbers, and the sum of 2^(each - it).
struct Sum {
    float most, sum;

    __device__ __forceinline__ void join(const Sum& other) {
        if (other.sum == 0.0f) return;
        const float larger = fmaxf(most, other.most);
        sum = (sum == 0.0f ? 0.0f : sum * exp2f(most - larger)) + other.sum * exp2f(other.most - larger);
        most = larger;
    }
};

__device__ __forceinline__ Sum over_threads(Sum mine) {
    __shared__ Sum of_warp[32];
    const auto over_warp = [](Sum x) {
#pragma unroll
        for (int lane = 16; lane > 0; lane /= 2) {
            x.join({__shfl_xor_sync(~0u, x.most, lane), __shfl_xor_sync(~0u, x.sum, lane)});
        }
        return x;
    };
    mine = over_warp(mine);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = mine;
    __syncthreads();
    return over_warp(of_warp[threadIdx.x % 32]);
}

// Eight elements of a row, times `factor`; what lies beyond it becomes 0 under 2^.
template <bool VECTOR, class T>
__device__ __forceinline__ void read_scaled(const T* row, int column, int width, float factor, float (&to)[UNIT]) {
    if (VECTOR) {
        read_unit(row + column, to);
#pragma unroll
        for (int i = 0; i < UNIT; i++) to[i] *= factor;
    } else {
#pragma unroll
        for (int i = 0; i < UNIT; i++) to[i] = column + i < width ? to_float(row[column + i]) * factor : -INFINITY;
    }
}

// A block: a row.
template <bool VECTOR, class T>
__global__ void __launch_bounds__(THREADS) softmax_kernel(int width, float factor, T* x) {
    T* const row = x + int64_t(blockIdx.x) * width;
    Sum mine = {-INFINITY, 0.0f};
    float v[UNIT];
    for (int column = threadIdx.x * UNIT; column < width; column += THREADS * UNIT) {
        read_scaled<VECTOR>(row, column, width, factor, v);
        Sum unit = {v[0], 0.0f};
#pragma unroll
        for (int i = 1; i < UNIT; i++) unit.most = fmaxf(unit.most, v[i]);
#pragma unroll
        for (int i = 0; i < UNIT; i++) unit.sum += exp2f(v[i] - unit.most);
        mine.join(unit);
    }
    const Sum all = over_threads(mine);
    const float inverse = 1.0f / all.sum;
    for (int column = threadIdx.x * UNIT; column < width; column += THREADS * UNIT) {
        read_scaled<VECTOR>(row, column, width, factor, v);
#pragma unroll
        for (int i = 0; i < UNIT; i++) v[i] = exp2f(v[i] - all.most) * inverse;
        if (VECTOR) {
            write_unit(row + column, v);
        } else {
#pragma unroll
            for (int i = 0; i < UNIT; i++) {
                if (column + i < width) row[column + i] = from_float<T>(v[i]);
            }
        }
    }
}

}
}

using namespace atelier;

int atelier_softmax(int64_t rows, int32_t width, int32_t dtype, float scale, void* x, cudaStream_t stream) {
    constexpr float LOG2_E = 1.44269504f;
    return with_dtype(dtype, [&]<class T>() -> int {
        const bool vector = width % UNIT == 0 && reinterpret_cast<uintptr_t>(x) % 16 == 0;
        const auto kernel = vector ? softmax_kernel<true, T> : softmax_kernel<false, T>;
        kernel<<<rows, THREADS, 0, stream>>>(width, scale * LOG2_E, static_cast<T*>(x));
        return cudaGetLastError();
    });
}
