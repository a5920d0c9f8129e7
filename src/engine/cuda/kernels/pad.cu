// A small matrix with zeros around it, in another type.

#include "rows.cuh"

namespace atelier {
namespace {

template <class From, class To>
__global__ void __launch_bounds__(256) pad_kernel(const Pad pad, const From* from, To* to) {
    const int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    const int64_t row = index / pad.columns, column = index - row * pad.columns;
    if (row >= pad.rows) return;
    const bool inside = row < pad.from_rows && column < pad.from_columns;
    to[index] = from_float<To>(inside ? to_float(from[row * pad.stride + column]) : 0.0f);
}

}
}

using namespace atelier;

int atelier_pad(Pad pad, const void* from, void* to, cudaStream_t stream) {
    return with_dtype(pad.from_dtype, [&]<class From>() -> int {
        return with_dtype(pad.to_dtype, [&]<class To>() -> int {
            const int64_t blocks = (int64_t(pad.rows) * pad.columns + 255) / 256;
            pad_kernel<<<blocks, 256, 0, stream>>>(pad, static_cast<const From*>(from), static_cast<To*>(to));
            return cudaGetLastError();
        });
    });
}
