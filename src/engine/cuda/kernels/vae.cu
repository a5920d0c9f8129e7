// GroupNorm with SiLU, sums, and the end of an enlarging convolution, over height × width × channels.

#include "rows.cuh"

namespace atelier {
namespace {

constexpr int THREADS = 256;

// Where a thread stands in a block that is eight channels wide a thread, as wide as a pixel, and as many pixels high as that leaves room
// for. The last threads may have no place.
struct Place {
    int units, rows, unit, row;

    __device__ __forceinline__ explicit Place(const Picture& of) {
        units = (of.channels + UNIT - 1) / UNIT;
        rows = THREADS / units;
        row = threadIdx.x / units;
        unit = threadIdx.x - row * units;
    }
};

// The channels of one pixel from `first` on, at most eight; zeros beyond the last.
template <bool VECTOR, class T>
__device__ __forceinline__ void read_channels(const T* pixel, int first, int channels, float (&to)[UNIT]) {
    if (VECTOR) {
        read_unit(pixel + first, to);
    } else {
#pragma unroll
        for (int i = 0; i < UNIT; i++) to[i] = first + i < channels ? to_float(pixel[first + i]) : 0.0f;
    }
}

template <bool VECTOR, class T>
__device__ __forceinline__ void write_channels(T* pixel, int first, int channels, const float (&from)[UNIT]) {
    if (VECTOR) {
        write_unit(pixel + first, from);
    } else {
#pragma unroll
        for (int i = 0; i < UNIT; i++) {
            if (first + i < channels) pixel[first + i] = from_float<T>(from[i]);
        }
    }
}

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

// Block (chunk, picture) takes a share of the pixels with all their channels. partial: [batch·groups, chunks]
template <bool VECTOR, class T>
__global__ void __launch_bounds__(THREADS) partial_moments_kernel(const Picture of, const T* x, Moments* partial) {
    __shared__ float2 sums[THREADS * UNIT];
    extern __shared__ float2 of_channel[]; // mean, and squares about it
    const Place at(of);
    const int64_t share = (of.pixels + gridDim.x - 1) / gridDim.x;
    const int64_t first = blockIdx.x * share, end = min(first + share, of.pixels);
    const T* const picture = x + blockIdx.y * of.pixels * of.channels;
    // Differences from the share's first pixel: as near to the mean as pixels are to each other, so that little cancels.
    float origin[UNIT] = {}, sum[UNIT] = {}, square[UNIT] = {};
    if (at.row < at.rows) {
        read_channels<VECTOR>(picture + first * of.channels, at.unit * UNIT, of.channels, origin);
#pragma unroll 4
        for (int64_t pixel = first + at.row; pixel < end; pixel += at.rows) {
            float v[UNIT];
            read_channels<VECTOR>(picture + pixel * of.channels, at.unit * UNIT, of.channels, v);
#pragma unroll
            for (int i = 0; i < UNIT; i++) {
                const float apart = v[i] - origin[i];
                sum[i] += apart;
                square[i] += apart * apart;
            }
        }
    }
#pragma unroll
    for (int i = 0; i < UNIT; i++) sums[threadIdx.x * UNIT + i] = make_float2(sum[i], square[i]);
    __syncthreads();
    const float count = end - first;
    for (int channel = threadIdx.x; channel < of.channels; channel += THREADS) {
        float2 total = {};
        for (int row = 0; row < at.rows; row++) {
            const float2 one = sums[row * at.units * UNIT + channel];
            total.x += one.x, total.y += one.y;
        }
        const float mean = total.x / count;
        of_channel[channel] = make_float2(to_float(picture[first * of.channels + channel]) + mean, total.y - total.x * mean);
    }
    __syncthreads();
    const int size = of.channels / of.groups;
    for (int group = threadIdx.x; group < of.groups; group += THREADS) {
        float mean = 0.0f, squares = 0.0f;
        for (int i = 0; i < size; i++) mean += of_channel[group * size + i].x;
        mean /= size;
        for (int i = 0; i < size; i++) {
            const float2 channel = of_channel[group * size + i];
            squares += channel.y + count * (channel.x - mean) * (channel.x - mean);
        }
        partial[int64_t(blockIdx.y * of.groups + group) * gridDim.x + blockIdx.x] = {count * size, mean, squares};
    }
}

// Every thread gets all threads' moments together.
__device__ __forceinline__ Moments over_threads(Moments mine) {
    __shared__ Moments of[THREADS];
    of[threadIdx.x] = mine;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) of[threadIdx.x].join(of[threadIdx.x + half]);
    }
    __syncthreads();
    return of[0];
}

// Block: a group of a picture. y = x·factor + offset in each channel; factors: [batch, 2, channels].
__global__ void __launch_bounds__(THREADS) factors_kernel(
    const Picture of, int chunks, const Moments* partial, const float* weight, const float* bias, float* factors) {
    Moments sum = {};
    for (int chunk = threadIdx.x; chunk < chunks; chunk += THREADS) sum.join(partial[int64_t(blockIdx.x) * chunks + chunk]);
    sum = over_threads(sum);
    const float inverse = 1.0f / sqrtf(sum.squares / sum.count + of.epsilon);
    const int size = of.channels / of.groups, picture = blockIdx.x / of.groups, group = blockIdx.x % of.groups;
    for (int i = threadIdx.x; i < size; i += THREADS) {
        const int channel = group * size + i;
        const float factor = inverse * weight[channel];
        factors[2 * picture * of.channels + channel] = factor;
        factors[(2 * picture + 1) * of.channels + channel] = bias[channel] - sum.mean * factor;
    }
}

// Pixels of a thread that are on their way at once.
constexpr int FLYING = 4;

// Block (chunk, picture), the last chunk first: what the first pass has read last may still lie in the L2 cache.
template <bool VECTOR, class T>
__global__ void __launch_bounds__(THREADS) group_norm_kernel(const Picture of, const T* x, const float* factors, T* y) {
    const Place at(of);
    if (at.row >= at.rows) return;
    const int channel = at.unit * UNIT;
    float factor[UNIT], offset[UNIT];
    read_shared<VECTOR>(factors + 2 * blockIdx.y * of.channels, channel, of.channels, factor);
    read_shared<VECTOR>(factors + (2 * blockIdx.y + 1) * of.channels, channel, of.channels, offset);
    const int64_t share = (of.pixels + gridDim.x - 1) / gridDim.x, picture = blockIdx.y * of.pixels;
    const int64_t start = (gridDim.x - 1 - blockIdx.x) * share, end = min(start + share, of.pixels);
    for (int64_t first = start + at.row; first < end; first += FLYING * at.rows) {
        float v[FLYING][UNIT];
#pragma unroll
        for (int p = 0; p < FLYING; p++) {
            const int64_t pixel = first + p * at.rows;
            if (pixel < end) read_channels<VECTOR>(x + (picture + pixel) * of.channels, channel, of.channels, v[p]);
        }
#pragma unroll
        for (int p = 0; p < FLYING; p++) {
            const int64_t pixel = first + p * at.rows;
            if (pixel >= end) break;
#pragma unroll
            for (int i = 0; i < UNIT; i++) {
                v[p][i] = v[p][i] * factor[i] + offset[i];
                if (of.silu) v[p][i] = __fdividef(v[p][i], 1.0f + __expf(-v[p][i]));
            }
            write_channels<VECTOR>(y + (picture + pixel) * of.channels, channel, of.channels, v[p]);
        }
    }
}

template <bool VECTOR, class T>
int group_norm(
    const Picture& of, const void* x, const float* weight, const float* bias, int chunks, void* partial, float* factors, void* y, cudaStream_t stream) {
    const T* const from = static_cast<const T*>(x);
    Moments* const moments = static_cast<Moments*>(partial);
    partial_moments_kernel<VECTOR><<<dim3(chunks, of.batch), THREADS, of.channels * sizeof(float2), stream>>>(of, from, moments);
    factors_kernel<<<of.batch * of.groups, THREADS, 0, stream>>>(of, chunks, moments, weight, bias, factors);
    group_norm_kernel<VECTOR><<<dim3(chunks, of.batch), THREADS, 0, stream>>>(of, from, factors, static_cast<T*>(y));
    return cudaGetLastError();
}

template <bool VECTOR, class T>
__global__ void __launch_bounds__(THREADS) add_kernel(int64_t n, const T* x, T* sum) {
    const int64_t first = (int64_t(blockIdx.x) * THREADS + threadIdx.x) * UNIT;
    if (first >= n) return;
    const int count = min(int64_t(UNIT), n - first);
    float a[UNIT], b[UNIT];
    read_channels<VECTOR>(x + first, 0, count, a);
    read_channels<VECTOR>(sum + first, 0, count, b);
#pragma unroll
    for (int i = 0; i < UNIT; i++) b[i] += a[i];
    write_channels<VECTOR>(sum + first, 0, count, b);
}

// A thread moves a word of y, whose pixels have `words` of them.
template <class Word>
__global__ void join_phases_kernel(int64_t count, int height, int width, int words, const Word* x, Word* y) {
    const int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (index >= count) return;
    const int64_t pixel = index / words, line = pixel / (2 * width), picture = line / (2 * height);
    const int word = index - pixel * words, column = pixel - line * 2 * width, row = line - picture * 2 * height;
    const int64_t source = (picture * (height + 1) + (row + 1) / 2) * (width + 1) + (column + 1) / 2;
    y[index] = x[(4 * source + 2 * (row % 2) + column % 2) * words + word];
}

template <class Word>
int join_phases(int64_t rows, int height, int width, int64_t pixel_bytes, const void* x, void* y, cudaStream_t stream) {
    const int words = pixel_bytes / sizeof(Word);
    const int64_t count = 4 * rows * width * words;
    join_phases_kernel<<<(count + THREADS - 1) / THREADS, THREADS, 0, stream>>>(
        count, height, width, words, static_cast<const Word*>(x), static_cast<Word*>(y));
    return cudaGetLastError();
}

bool aligned(const void* x, const void* y, int64_t pixel_bytes) {
    return (reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(y) | uintptr_t(pixel_bytes)) % 16 == 0;
}

}
}

using namespace atelier;

int atelier_group_norm(
    Picture of, const void* x, const float* weight, const float* bias, int32_t chunks, void* partial, float* factors, void* y, cudaStream_t stream) {
    return with_dtype(of.dtype, [&]<class T>() -> int {
        const bool vector = of.channels % UNIT == 0 && aligned(x, y, 0);
        const auto run = vector ? group_norm<true, T> : group_norm<false, T>;
        return run(of, x, weight, bias, chunks, partial, factors, y, stream);
    });
}

int atelier_add(int64_t n, int32_t dtype, const void* x, void* sum, cudaStream_t stream) {
    return with_dtype(dtype, [&]<class T>() -> int {
        const auto kernel = n % UNIT == 0 && aligned(x, sum, 0) ? add_kernel<true, T> : add_kernel<false, T>;
        const int64_t block = THREADS * UNIT;
        kernel<<<(n + block - 1) / block, THREADS, 0, stream>>>(n, static_cast<const T*>(x), static_cast<T*>(sum));
        return cudaGetLastError();
    });
}

int atelier_join_phases(int64_t rows, int32_t height, int32_t width, int64_t pixel_bytes, const void* x, void* y, cudaStream_t stream) {
    if (aligned(x, y, pixel_bytes)) return join_phases<uint4>(rows, height, width, pixel_bytes, x, y, stream);
    return join_phases<uint16_t>(rows, height, width, pixel_bytes, x, y, stream);
}
