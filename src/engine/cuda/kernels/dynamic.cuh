// A block's copy of an ascending code of 256 values, and the nearest of them.
#pragma once

#include <cstdint>

namespace atelier {

constexpr int CODES = 256;
constexpr int BLOCK = 256;

// How many of the 256 values lie below x, at most 255; then the nearer of that value and the one before.
__device__ __forceinline__ int nearest(const float* code, float x) {
    int above = 0;
#pragma unroll
    for (int step = CODES / 2; step > 0; step /= 2) {
        if (code[above + step - 1] < x) above += step;
    }
    const int below = above > 0 ? above - 1 : 0;
    return x - code[below] <= code[above] - x ? below : above;
}

}
