// Sums over the tokens of a picture, column by column, in an order that depends on the shape alone.
#pragma once

#include "rows.cuh"

namespace atelier {

// Block (chunk, picture) adds up its share of the rows. partial: [chunks, SUMS, batch, width]
template <class Op, int UNITS, bool VECTOR>
__global__ void __launch_bounds__(MOST_THREADS) partial_columns_kernel(const Op op, const Shape shape, float* partial) {
    const int each_chunk = (shape.tokens + gridDim.x - 1) / gridDim.x;
    const int first = blockIdx.x * each_chunk, end = min(first + each_chunk, shape.tokens);
    Row<UNITS, VECTOR> sums[Op::SUMS] = {};
    for (int token = first; token < end; token++) op.template add<UNITS, VECTOR>(blockIdx.y, token, shape.width, sums);
#pragma unroll
    for (int n = 0; n < Op::SUMS; n++) {
        const int64_t row = (int64_t(blockIdx.x) * Op::SUMS + n) * shape.batch + blockIdx.y;
        sums[n].write(partial + row * shape.width, shape.width);
    }
}

template <int SUMS>
struct Sums {
    float* to[SUMS];
};

template <int SUMS>
__global__ void add_chunks_kernel(const float* partial, int chunks, int64_t count, Sums<SUMS> sums) {
    const int64_t column = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (column >= count) return;
    const float* from = partial + blockIdx.y * count + column;
    float sum = 0.0f;
#pragma unroll 8
    for (int chunk = 0; chunk < chunks; chunk++) sum += from[int64_t(chunk) * SUMS * count];
    sums.to[blockIdx.y][column] = sum;
}

// Op::add<UNITS, VECTOR>(picture, token, width, sums) adds one row to SUMS rows; to[n]: [batch, width].
template <class Op>
int over_columns(const Op& op, const Shape& shape, int chunks, float* partial, float* const (&to)[Op::SUMS], cudaStream_t stream) {
    const int failed = with_layout(shape, [&]<int UNITS, bool VECTOR>(int threads) {
        partial_columns_kernel<Op, UNITS, VECTOR><<<dim3(chunks, shape.batch), threads, 0, stream>>>(op, shape, partial);
    });
    if (failed) return failed;
    Sums<Op::SUMS> sums;
    for (int n = 0; n < Op::SUMS; n++) sums.to[n] = to[n];
    const int64_t count = int64_t(shape.batch) * shape.width;
    add_chunks_kernel<Op::SUMS><<<dim3((count + 127) / 128, Op::SUMS), 128, 0, stream>>>(partial, chunks, count, sums);
    return cudaGetLastError();
}

}
