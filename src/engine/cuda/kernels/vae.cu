// GroupNorm with SiLU, and ×2 by repeating pixels, over channels × height × width.

#include "rows.cuh"

namespace atelier {
namespace {

// (count, mean, sum of squares about the mean) of two sets together (Chan, Golub and LeVeque 1979).
struct Moments {
    float count, mean, squares;

    __device__ __forceinline__ void join(const Moments& other) {
        const float all = count + other.count;
        if (all == 0.0f) return;
        const float apart = other.mean - mean;
        mean += apart * (other.count / all);
        squares += other.squares + apart * apart * (count * (other.count / all));
        count = all;
    }
};

// 256 threads; the result is thread 0's.
__device__ __forceinline__ Moments over_threads(Moments mine) {
    __shared__ Moments of[256];
    of[threadIdx.x] = mine;
    for (int half = 128; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) of[threadIdx.x].join(of[threadIdx.x + half]);
    }
    return of[0];
}

// Eight elements of a contiguous run; one by one at its end, or where it is not aligned.
template <class T>
__device__ __forceinline__ void read_run(const T* from, int64_t count, bool vector, float (&to)[UNIT]) {
    if (vector && count >= UNIT) {
        read_unit(from, to);
    } else {
#pragma unroll
        for (int i = 0; i < UNIT; i++) to[i] = i < count ? to_float(from[i]) : 0.0f;
    }
}

// Block (chunk, group) takes a share of the group, which is contiguous. A thread's moments are those of eight elements at a time.
template <class T>
__global__ void __launch_bounds__(256) partial_moments_kernel(const Picture of, const T* x, bool vector, float* partial) {
    const int64_t size = of.channels / of.groups * of.pixels;
    const int64_t units = (size + UNIT - 1) / UNIT, share = (units + gridDim.x - 1) / gridDim.x;
    const int64_t end = min((blockIdx.x + 1) * share, units);
    const T* const group = x + blockIdx.y * size;
    Moments sum = {};
#pragma unroll 2
    for (int64_t unit = blockIdx.x * share + threadIdx.x; unit < end; unit += 256) {
        const int count = min(int64_t(UNIT), size - unit * UNIT);
        float v[UNIT], total = 0.0f, squares = 0.0f;
        read_run(group + unit * UNIT, count, vector, v);
#pragma unroll
        for (int i = 0; i < UNIT; i++) total += v[i];
        const float mean = total / count;
#pragma unroll
        for (int i = 0; i < UNIT; i++) squares += i < count ? (v[i] - mean) * (v[i] - mean) : 0.0f;
        sum.join({float(count), mean, squares});
    }
    sum = over_threads(sum);
    if (threadIdx.x == 0) {
        float* const to = partial + (int64_t(blockIdx.y) * gridDim.x + blockIdx.x) * 3;
        to[0] = sum.count, to[1] = sum.mean, to[2] = sum.squares;
    }
}

// moments: mean and 1/√(variance + ε) of each group.
__global__ void __launch_bounds__(256) moments_kernel(const Picture of, int chunks, const float* partial, float* moments) {
    Moments sum = {};
    for (int chunk = threadIdx.x; chunk < chunks; chunk += 256) {
        const float* const from = partial + (int64_t(blockIdx.x) * chunks + chunk) * 3;
        sum.join({from[0], from[1], from[2]});
    }
    sum = over_threads(sum);
    if (threadIdx.x == 0) {
        moments[2 * blockIdx.x] = sum.mean;
        moments[2 * blockIdx.x + 1] = 1.0f / sqrtf(sum.squares / sum.count + of.epsilon);
    }
}

constexpr int UNITS_A_THREAD = 4;

// Block (chunk of pixels, channel of a picture).
template <class T>
__global__ void __launch_bounds__(256) group_norm_kernel(
    const Picture of, const T* x, bool vector, const float* weight, const float* bias, const float* moments, T* y) {
    const int channel = blockIdx.y % of.channels, group = blockIdx.y / (of.channels / of.groups);
    const float factor = moments[2 * group + 1] * weight[channel], offset = bias[channel] - moments[2 * group] * factor;
    const int64_t plane = int64_t(blockIdx.y) * of.pixels;
    const int64_t first = (int64_t(blockIdx.x) * UNITS_A_THREAD * 256 + threadIdx.x) * UNIT;
    float v[UNITS_A_THREAD][UNIT];
#pragma unroll
    for (int u = 0; u < UNITS_A_THREAD; u++) {
        const int64_t pixel = first + u * 256 * UNIT;
        if (pixel < of.pixels) read_run(x + plane + pixel, of.pixels - pixel, vector, v[u]);
    }
#pragma unroll
    for (int u = 0; u < UNITS_A_THREAD; u++) {
        const int64_t pixel = first + u * 256 * UNIT;
        if (pixel >= of.pixels) continue;
#pragma unroll
        for (int i = 0; i < UNIT; i++) {
            v[u][i] = v[u][i] * factor + offset;
            if (of.silu) v[u][i] = __fdividef(v[u][i], 1.0f + __expf(-v[u][i]));
        }
        if (vector && of.pixels - pixel >= UNIT) {
            write_unit(y + plane + pixel, v[u]);
        } else {
#pragma unroll
            for (int i = 0; i < UNIT; i++) {
                if (pixel + i < of.pixels) y[plane + pixel + i] = from_float<T>(v[u][i]);
            }
        }
    }
}

// A row of the picture becomes two; each thread doubles one pixel, which is two of the next element type.
template <class T, class Pair>
__global__ void upsample_kernel(int64_t rows, int width, const T* x, Pair* y) {
    const int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (index >= rows * width) return;
    const int64_t row = index / width, column = index - row * width;
    const T pixel = x[index];
    const Pair pair = {pixel, pixel};
    y[2 * row * width + column] = pair;
    y[(2 * row + 1) * width + column] = pair;
}

}
}

using namespace atelier;

int atelier_group_norm(
    Picture of, const void* x, const float* weight, const float* bias, int32_t chunks, float* partial, float* moments, void* y, cudaStream_t stream) {
    const int groups = of.batch * of.groups;
    const bool vector = of.pixels % UNIT == 0 && reinterpret_cast<uintptr_t>(x) % 16 == 0 && reinterpret_cast<uintptr_t>(y) % 16 == 0;
    const int64_t blocks = (of.pixels + UNITS_A_THREAD * 256 * UNIT - 1) / (UNITS_A_THREAD * 256 * UNIT);
    return with_dtype(of.dtype, [&]<class T>() -> int {
        const T* const from = static_cast<const T*>(x);
        partial_moments_kernel<<<dim3(chunks, groups), 256, 0, stream>>>(of, from, vector, partial);
        moments_kernel<<<groups, 256, 0, stream>>>(of, chunks, partial, moments);
        group_norm_kernel<<<dim3(blocks, of.batch * of.channels), 256, 0, stream>>>(
            of, from, vector, weight, bias, moments, static_cast<T*>(y));
        return cudaGetLastError();
    });
}

int atelier_upsample(int64_t rows, int32_t width, int32_t dtype, const void* x, void* y, cudaStream_t stream) {
    const int64_t blocks = (rows * width + 255) / 256;
    if (dtype == F32) {
        upsample_kernel<<<blocks, 256, 0, stream>>>(rows, width, static_cast<const float*>(x), static_cast<float2*>(y));
    } else {
        upsample_kernel<<<blocks, 256, 0, stream>>>(rows, width, static_cast<const uint16_t*>(x), static_cast<ushort2*>(y));
    }
    return cudaGetLastError();
}
