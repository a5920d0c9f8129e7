// fp8 e4m3 with a scale per row.

#include "rows.cuh"

namespace atelier {
namespace {

template <class T>
struct Quantise {
    View x;
    Emission to;

    template <int UNITS, bool VECTOR>
    __device__ __forceinline__ void row(int picture, int token, int64_t index, int width) const {
        Row<UNITS, VECTOR> row;
        row.read(row_of<T>(x, picture, token), width);
        emit<T>(row, to, index, width);
    }
};

template <class T>
struct Dequantise {
    const uint8_t* codes;
    const float* scale;
    T* x;

    template <int UNITS, bool VECTOR>
    __device__ __forceinline__ void row(int, int, int64_t index, int width) const {
        const uint8_t* from = codes + index * width;
        const float of_row = scale[index];
        Row<UNITS, VECTOR> row;
#pragma unroll
        for (int u = 0; u < UNITS; u++) {
            const int column = (u * blockDim.x + threadIdx.x) * UNIT;
            uint8_t unit[UNIT] = {};
            if (VECTOR) {
                if (column < width) *reinterpret_cast<uint2*>(unit) = *reinterpret_cast<const uint2*>(from + column);
            } else {
#pragma unroll
                for (int i = 0; i < UNIT; i++) unit[i] = column + i < width ? from[column + i] : 0;
            }
#pragma unroll
            for (int i = 0; i < UNIT; i++) row.at[u][i] = __half2float(__nv_cvt_fp8_to_halfraw(unit[i], __NV_E4M3)) * of_row;
        }
        row.write(x + index * width, width);
    }
};

}
}

using namespace atelier;

int atelier_fp8_quantise(Shape shape, View x, void* codes, float* scale, cudaStream_t stream) {
    return with_dtype(shape.dtype, [&]<class T>() { return over_rows(Quantise<T>{x, Emission{nullptr, codes, scale}}, shape, stream); });
}

int atelier_fp8_dequantise(Shape shape, const void* codes, const float* scale, void* x, cudaStream_t stream) {
    return with_dtype(shape.dtype, [&]<class T>() {
        return over_rows(Dequantise<T>{static_cast<const uint8_t*>(codes), scale, static_cast<T*>(x)}, shape, stream);
    });
}
