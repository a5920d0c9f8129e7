// Gate and residual; gradients.

#include "columns.cuh"

namespace atelier {
namespace {

template <class T>
struct GateResidual {
    View residual, gate, x;
    T* y;

    template <int UNITS, bool VECTOR>
    __device__ __forceinline__ void row(int picture, int token, int64_t index, int width) const {
        Row<UNITS, VECTOR> sum, row;
        sum.read(row_of<T>(residual, picture, token), width);
        row.read(row_of<T>(x, picture, token), width);
        const auto add = [&](int u, int i, const float* gate) { sum.at[u][i] += gate[0] * row.at[u][i]; };
        each_with<UNITS, VECTOR>(width, add, row_of(gate, picture));
        sum.write(y + index * width, width);
    }
};

template <class T>
struct GateGradientX {
    View gate, g;
    T* dx;

    template <int UNITS, bool VECTOR>
    __device__ __forceinline__ void row(int picture, int token, int64_t index, int width) const {
        Row<UNITS, VECTOR> row;
        row.read(row_of<T>(g, picture, token), width);
        each_with<UNITS, VECTOR>(width, [&](int u, int i, const float* gate) { row.at[u][i] *= gate[0]; }, row_of(gate, picture));
        row.write(dx + index * width, width);
    }
};

template <class T>
struct GateGradient {
    static constexpr int SUMS = 1;
    View x, g;

    template <int UNITS, bool VECTOR>
    __device__ __forceinline__ void add(int picture, int token, int width, Row<UNITS, VECTOR> (&sums)[SUMS]) const {
        Row<UNITS, VECTOR> row, d;
        row.read(row_of<T>(x, picture, token), width);
        d.read(row_of<T>(g, picture, token), width);
        each<UNITS, VECTOR>(width, [&](int u, int i, int) { sums[0].at[u][i] += d.at[u][i] * row.at[u][i]; });
    }
};

}
}

using namespace atelier;

int atelier_gate_residual(Shape shape, View residual, View gate, View x, void* y, cudaStream_t stream) {
    return with_dtype(shape.dtype, [&]<class T>() {
        return over_rows(GateResidual<T>{residual, gate, x, static_cast<T*>(y)}, shape, stream);
    });
}

int atelier_gate_gradient_x(Shape shape, View gate, View g, void* dx, cudaStream_t stream) {
    return with_dtype(shape.dtype, [&]<class T>() { return over_rows(GateGradientX<T>{gate, g, static_cast<T*>(dx)}, shape, stream); });
}

int atelier_gate_gradient(Shape shape, View x, View g, int32_t chunks, float* partial, float* dgate, cudaStream_t stream) {
    float* const sums[1] = {dgate};
    return with_dtype(shape.dtype, [&]<class T>() { return over_columns(GateGradient<T>{x, g}, shape, chunks, partial, sums, stream); });
}
