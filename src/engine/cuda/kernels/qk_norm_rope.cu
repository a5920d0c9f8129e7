// RMSNorm and rotary embedding of the queries and keys in a packed qkv, and the gradient.

#include "rows.cuh"

namespace atelier {
namespace {

// A group of lanes holds one head, eight elements (four pairs) a lane.
template <int LANES>
__device__ __forceinline__ float over_group(float x) {
#pragma unroll
    for (int lane = LANES / 2; lane > 0; lane /= 2) x += __shfl_xor_sync(~0u, x, lane);
    return x;
}

// Elements beyond the head are zero.
template <bool VECTOR, class T>
__device__ __forceinline__ void read_head(const T* head, int column, int width, float (&to)[UNIT]) {
    if (VECTOR && column < width) {
        read_unit(head + column, to);
    } else {
#pragma unroll
        for (int i = 0; i < UNIT; i++) to[i] = !VECTOR && column + i < width ? to_float(head[column + i]) : 0.0f;
    }
}

template <bool VECTOR, class T>
__device__ __forceinline__ void write_head(T* head, int column, int width, const float (&from)[UNIT]) {
    if (VECTOR) {
        if (column < width) write_unit(head + column, from);
    } else {
#pragma unroll
        for (int i = 0; i < UNIT; i++) {
            if (column + i < width) head[column + i] = from_float<T>(from[i]);
        }
    }
}

__device__ __forceinline__ void read_weights(const float* row, int column, int width, float (&to)[UNIT]) {
#pragma unroll
    for (int i = 0; i < UNIT; i++) to[i] = column + i < width ? __ldg(row + column + i) : 0.0f;
}

// What a thread needs for all heads of its token.
struct Turn {
    float cos[UNIT / 2], sin[UNIT / 2], weight[2][UNIT];

    __device__ __forceinline__ Turn(const Heads& of, int token, int column) {
        const int64_t angle = int64_t(token) * (of.width / 2) + column / 2;
#pragma unroll
        for (int pair = 0; pair < UNIT / 2; pair++) {
            const bool inside = column + 2 * pair < of.width;
            cos[pair] = inside ? __ldg(of.cos + angle + pair) : 0.0f;
            sin[pair] = inside ? __ldg(of.sin + angle + pair) : 0.0f;
        }
        const bool text = token < of.text_tokens;
        read_weights(text ? of.text_q : of.picture_q, column, of.width, weight[0]);
        read_weights(text ? of.text_k : of.picture_k, column, of.width, weight[1]);
    }
};

template <int LANES>
__device__ __forceinline__ float inverse_rms(const float (&x)[UNIT], int width) {
    constexpr float EPSILON = 1e-6f;
    float square = 0.0f;
#pragma unroll
    for (int i = 0; i < UNIT; i++) square += x[i] * x[i];
    return 1.0f / sqrtf(over_group<LANES>(square) / width + EPSILON);
}

struct Forward {
    // A multiprocessor holds so many in registers.
    static constexpr int BLOCKS = 7;

    template <int LANES, bool VECTOR, class T>
    __device__ __forceinline__ static void head(const T*, int, int width, const Turn& turn, int which, float (&x)[UNIT]) {
        const float inverse = inverse_rms<LANES>(x, width);
#pragma unroll
        for (int pair = 0; pair < UNIT / 2; pair++) {
            const float x0 = x[2 * pair] * inverse * turn.weight[which][2 * pair];
            const float x1 = x[2 * pair + 1] * inverse * turn.weight[which][2 * pair + 1];
            x[2 * pair] = x0 * turn.cos[pair] - x1 * turn.sin[pair];
            x[2 * pair + 1] = x1 * turn.cos[pair] + x0 * turn.sin[pair];
        }
    }
};

// dx = (d − x·mean(d·x)/rms²) / rms, where d = weight·(g turned back).
struct Backward {
    static constexpr int BLOCKS = 5;

    template <int LANES, bool VECTOR, class T>
    __device__ __forceinline__ static void head(const T* head, int column, int width, const Turn& turn, int which, float (&g)[UNIT]) {
        float x[UNIT];
        read_head<VECTOR>(head, column, width, x);
        const float inverse = inverse_rms<LANES>(x, width);
        float along = 0.0f;
#pragma unroll
        for (int pair = 0; pair < UNIT / 2; pair++) {
            const float g0 = g[2 * pair], g1 = g[2 * pair + 1];
            g[2 * pair] = (g0 * turn.cos[pair] + g1 * turn.sin[pair]) * turn.weight[which][2 * pair];
            g[2 * pair + 1] = (g1 * turn.cos[pair] - g0 * turn.sin[pair]) * turn.weight[which][2 * pair + 1];
            along += g[2 * pair] * x[2 * pair] + g[2 * pair + 1] * x[2 * pair + 1];
        }
        along = over_group<LANES>(along) * inverse * inverse / width;
#pragma unroll
        for (int i = 0; i < UNIT; i++) g[i] = (g[i] - x[i] * along) * inverse;
    }
};

// A block turns the heads of one token, a group of lanes one head's q and k (and copies its v) at a time. `qkv` is what went forward, for Backward.
template <class Direction, int LANES, bool VECTOR, class T>
__global__ void __launch_bounds__(128, Direction::BLOCKS) qk_norm_rope_kernel(const Heads of, const T* qkv, const T* from, T* to) {
    const int token = blockIdx.x % of.tokens, column = threadIdx.x % LANES * UNIT;
    const int64_t part = int64_t(of.heads) * of.width, row = int64_t(blockIdx.x) * 3 * part;
    const Turn turn(of, token, column);
    const int groups = blockDim.x / LANES, rounds = (of.heads + groups - 1) / groups;
    for (int round = 0; round < rounds; round++) {
        // All lanes of a warp take part in its shuffles; those without a head of their own repeat the last one.
        const int wanted = round * groups + threadIdx.x / LANES;
        const bool own = wanted < of.heads;
        const int64_t at = row + int64_t(own ? wanted : of.heads - 1) * of.width;
        float x[3][UNIT];
#pragma unroll
        for (int which = 0; which < 2; which++) read_head<VECTOR>(from + at + which * part, column, of.width, x[which]);
        if (from != to) read_head<VECTOR>(from + at + 2 * part, column, of.width, x[2]);
#pragma unroll
        for (int which = 0; which < 2; which++) {
            Direction::template head<LANES, VECTOR>(qkv + at + which * part, column, of.width, turn, which, x[which]);
            if (own) write_head<VECTOR>(to + at + which * part, column, of.width, x[which]);
        }
        if (from != to && own) write_head<VECTOR>(to + at + 2 * part, column, of.width, x[2]);
    }
}

template <class Direction, int LANES, class T>
void launch(const Heads& of, const T* qkv, const T* from, T* to, cudaStream_t stream) {
    const int threads = min(128, (of.heads * LANES + 31) / 32 * 32);
    const int blocks = of.batch * of.tokens;
    if (of.vector) {
        qk_norm_rope_kernel<Direction, LANES, true><<<blocks, threads, 0, stream>>>(of, qkv, from, to);
    } else {
        qk_norm_rope_kernel<Direction, LANES, false><<<blocks, threads, 0, stream>>>(of, qkv, from, to);
    }
}

template <class Direction>
int run(const Heads& of, const void* qkv, const void* from, void* to, cudaStream_t stream) {
    return with_dtype(of.dtype, [&]<class T>() -> int {
        const auto with_lanes = [&]<int LANES>() {
            launch<Direction, LANES>(of, static_cast<const T*>(qkv), static_cast<const T*>(from), static_cast<T*>(to), stream);
        };
        if (of.width <= 8 * UNIT) {
            with_lanes.template operator()<8>();
        } else if (of.width <= 16 * UNIT) {
            with_lanes.template operator()<16>();
        } else if (of.width <= 32 * UNIT) {
            with_lanes.template operator()<32>();
        } else {
            return cudaErrorInvalidValue;
        }
        return cudaGetLastError();
    });
}

}
}

using namespace atelier;

int atelier_qk_norm_rope(Heads of, const void* from, void* to, cudaStream_t stream) { return run<Forward>(of, from, from, to, stream); }

int atelier_qk_norm_rope_gradient(Heads of, const void* qkv, const void* from, void* to, cudaStream_t stream) {
    return run<Backward>(of, qkv, from, to, stream);
}
