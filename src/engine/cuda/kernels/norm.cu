// LayerNorm without weights and the modulation after it: forward and gradients.

#include "columns.cuh"

namespace atelier {
namespace {

template <class T>
struct LayerNormModulate {
    View x, shift, scale;
    Emission to;

    template <int UNITS, bool VECTOR>
    __device__ __forceinline__ void row(int picture, int token, int64_t index, int width) const {
        Row<UNITS, VECTOR> row;
        row.read(row_of<T>(x, picture, token), width);
        modulate(row, row_of(shift, picture), row_of(scale, picture), width);
        emit<T>(row, to, index, width);
    }
};

// dx = (d − mean d − x̂·mean(d·x̂)) / σ + beside, where d = g·(1 + scale).
template <class T>
struct LayerNormGradient {
    View x, scale, g, beside;
    T* dx;

    template <int UNITS, bool VECTOR>
    __device__ __forceinline__ void row(int picture, int token, int64_t index, int width) const {
        Row<UNITS, VECTOR> row, d;
        row.read(row_of<T>(x, picture, token), width);
        d.read(row_of<T>(g, picture, token), width);
        const float2 about = statistics(row, width);
        float along[2] = {0.0f, 0.0f};
        const auto add = [&](int u, int i, const float* scale) {
            row.at[u][i] = (row.at[u][i] - about.x) * about.y;
            d.at[u][i] *= 1.0f + scale[0];
            along[0] += d.at[u][i];
            along[1] += d.at[u][i] * row.at[u][i];
        };
        each_with<UNITS, VECTOR>(width, add, row_of(scale, picture));
        over_block<Add>(along);
        const float along_one = along[0] / width, along_x = along[1] / width;
        each<UNITS, VECTOR>(width, [&](int u, int i, int) {
            d.at[u][i] = (d.at[u][i] - along_one - row.at[u][i] * along_x) * about.y;
        });
        if (beside.data != nullptr) {
            row.read(row_of<T>(beside, picture, token), width);
            each<UNITS, VECTOR>(width, [&](int u, int i, int) { d.at[u][i] += row.at[u][i]; });
        }
        d.write(dx + index * width, width);
    }
};

// Σ g and Σ g·x̂ over tokens.
template <class T>
struct ModulationGradients {
    static constexpr int SUMS = 2;
    View x, g;

    template <int UNITS, bool VECTOR>
    __device__ __forceinline__ void add(int picture, int token, int width, Row<UNITS, VECTOR> (&sums)[SUMS]) const {
        Row<UNITS, VECTOR> row, d;
        row.read(row_of<T>(x, picture, token), width);
        d.read(row_of<T>(g, picture, token), width);
        const float2 about = statistics(row, width);
        each<UNITS, VECTOR>(width, [&](int u, int i, int) {
            sums[0].at[u][i] += d.at[u][i];
            sums[1].at[u][i] += d.at[u][i] * (row.at[u][i] - about.x) * about.y;
        });
    }
};

}
}

using namespace atelier;

int atelier_layer_norm_modulate(Shape shape, View x, View shift, View scale, Emission to, cudaStream_t stream) {
    return with_dtype(shape.dtype, [&]<class T>() { return over_rows(LayerNormModulate<T>{x, shift, scale, to}, shape, stream); });
}

int atelier_layer_norm_gradient(Shape shape, View x, View scale, View g, View beside, void* dx, cudaStream_t stream) {
    return with_dtype(shape.dtype, [&]<class T>() {
        return over_rows(LayerNormGradient<T>{x, scale, g, beside, static_cast<T*>(dx)}, shape, stream);
    });
}

int atelier_modulation_gradients(Shape shape, View x, View g, int32_t chunks, float* partial, float* dshift, float* dscale, cudaStream_t stream) {
    float* const sums[2] = {dshift, dscale};
    return with_dtype(shape.dtype, [&]<class T>() {
        return over_columns(ModulationGradients<T>{x, g}, shape, chunks, partial, sums, stream);
    });
}
