// GELU, tanh approximation, and its gradient; what a product's epilogue could not do.

#include "rows.cuh"

namespace atelier {
namespace {

constexpr float ROOT_2_OVER_PI = 0.7978845608028654f;
constexpr float CUBIC = 0.044715f;

// 0.5·(1 + tanh u) = 1 / (1 + exp(−2u))
__device__ __forceinline__ float half_one_plus_tanh(float u) { return __fdividef(1.0f, 1.0f + __expf(-2.0f * u)); }

__device__ __forceinline__ float gelu(float x) { return x * half_one_plus_tanh(ROOT_2_OVER_PI * x * (1.0f + CUBIC * x * x)); }

// s + x·s·(1 − s)·2u′, where gelu(x) = x·s.
__device__ __forceinline__ float gelu_slope(float x) {
    const float s = half_one_plus_tanh(ROOT_2_OVER_PI * x * (1.0f + CUBIC * x * x));
    return s + x * s * (1.0f - s) * 2.0f * ROOT_2_OVER_PI * (1.0f + 3.0f * CUBIC * x * x);
}

template <class T>
struct Gelu {
    View x;
    Emission to;

    template <int UNITS, bool VECTOR>
    __device__ __forceinline__ void row(int picture, int token, int64_t index, int width) const {
        Row<UNITS, VECTOR> row;
        row.read(row_of<T>(x, picture, token), width);
        each<UNITS, VECTOR>(width, [&](int u, int i, int) { row.at[u][i] = gelu(row.at[u][i]); });
        emit<T>(row, to, index, width);
    }
};

template <class T>
struct GeluGradient {
    View x, g;
    T* dx;

    template <int UNITS, bool VECTOR>
    __device__ __forceinline__ void row(int picture, int token, int64_t index, int width) const {
        Row<UNITS, VECTOR> row, d;
        row.read(row_of<T>(x, picture, token), width);
        d.read(row_of<T>(g, picture, token), width);
        each<UNITS, VECTOR>(width, [&](int u, int i, int) { d.at[u][i] *= gelu_slope(row.at[u][i]); });
        d.write(dx + index * width, width);
    }
};

template <class T>
struct FinishProduct {
    View from, to;
    Finish with;

    template <int UNITS, bool VECTOR>
    __device__ __forceinline__ void row(int picture, int token, int64_t index, int width) const {
        Row<UNITS, VECTOR> row, sum;
        row.read(row_of<T>(from, picture, token), width);
        T* const target = row_of<T>(to, picture, token);
        if (with.add) sum.read(target, width);
        const T* const bias = static_cast<const T*>(with.bias);
        const float of_row = with.row_scale == nullptr ? 1.0f : with.row_scale[index];
        each<UNITS, VECTOR>(width, [&](int u, int i, int column) {
            const float of_column = with.column_scale == nullptr ? 1.0f : with.column_scale[column];
            const float x = row.at[u][i] * of_row * of_column + (bias == nullptr ? 0.0f : to_float(bias[column]));
            row.at[u][i] = (with.gelu ? gelu(x) : x) + (with.add ? sum.at[u][i] : 0.0f);
        });
        row.write(target, width);
    }
};

}
}

using namespace atelier;

int atelier_gelu(Shape shape, View x, Emission to, cudaStream_t stream) {
    return with_dtype(shape.dtype, [&]<class T>() { return over_rows(Gelu<T>{x, to}, shape, stream); });
}

int atelier_gelu_gradient(Shape shape, View x, View g, void* dx, cudaStream_t stream) {
    return with_dtype(shape.dtype, [&]<class T>() { return over_rows(GeluGradient<T>{x, g, static_cast<T*>(dx)}, shape, stream); });
}

int atelier_finish_product(Shape shape, View from, View to, Finish with, cudaStream_t stream) {
    return with_dtype(shape.dtype, [&]<class T>() { return over_rows(FinishProduct<T>{from, to, with}, shape, stream); });
}
