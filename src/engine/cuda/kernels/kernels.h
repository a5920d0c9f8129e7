// What Rust calls: mirrored, declaration by declaration, in ../kernels.rs. Every function queues work on `stream` and returns a cudaError_t.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

extern "C" {

enum Dtype : int32_t { F32 = 0, BF16 = 1 };

// Rows of `width` elements: `tokens` rows for each of `batch` pictures. `vector`: every row starts at a multiple of 16 bytes and `width`
// is a multiple of 8.
struct Shape {
    int32_t batch, tokens, width, dtype, vector;
};

// Where the rows lie, strides in elements. What has one row per picture has no use for `row_stride`.
struct View {
    void* data;
    int64_t batch_stride, row_stride;
};

// Outputs of a kernel that feeds a product, contiguous; null is not wanted. `scale` goes with `codes`: one per row.
struct Emission {
    void* plain;
    void* codes;
    float* scale;
};

struct Rule {
    float keep, new_first, beta2, new_second, rate, root, epsilon;
};

int atelier_layer_norm_modulate(Shape, View x, View shift, View scale, Emission, cudaStream_t);
// beside: what is added to the gradient; null is nothing.
int atelier_layer_norm_gradient(Shape, View x, View scale, View g, View beside, void* dx, cudaStream_t);
// partial: [chunks, 2, batch, width] f32
int atelier_modulation_gradients(Shape, View x, View g, int32_t chunks, float* partial, float* dshift, float* dscale, cudaStream_t);

int atelier_gate_residual(Shape, View residual, View gate, View x, void* y, cudaStream_t);
int atelier_gate_gradient_x(Shape, View gate, View g, void* dx, cudaStream_t);
// partial: [chunks, batch, width] f32
int atelier_gate_gradient(Shape, View x, View g, int32_t chunks, float* partial, float* dgate, cudaStream_t);

int atelier_gelu(Shape, View x, Emission, cudaStream_t);
int atelier_gelu_gradient(Shape, View x, View g, void* dx, cudaStream_t);

// What a product's epilogue could not: to = gelu?(from·row_scale·column_scale + bias) + (to, if `add`); null scales are 1, a null bias 0.
// from, to: the same memory, or not.
struct Finish {
    const float *row_scale, *column_scale;
    const void* bias;
    int32_t gelu, add;
};
int atelier_finish_product(Shape, View from, View to, Finish, cudaStream_t);

// to: [rows, columns], contiguous: `from`, [from_rows, from_columns] at `stride`, and zeros after it.
struct Pad {
    int32_t rows, columns, from_rows, from_columns, from_dtype, to_dtype;
    int64_t stride;
};
int atelier_pad(Pad, const void* from, void* to, cudaStream_t);

struct Heads {
    int32_t batch, tokens, heads, width, text_tokens, dtype, vector;
    const float *text_q, *text_k, *picture_q, *picture_k, *cos, *sin;
};
// from, to: [batch, tokens, 3, heads, width]; the same memory, or not: then v is copied.
int atelier_qk_norm_rope(Heads, const void* from, void* to, cudaStream_t);
// from: gradient of the result, to: gradient of qkv; the same memory, or not.
int atelier_qk_norm_rope_gradient(Heads, const void* qkv, const void* from, void* to, cudaStream_t);

int atelier_fp8_quantise(Shape, View x, void* codes, float* scale, cudaStream_t);
int atelier_fp8_dequantise(Shape, const void* codes, const float* scale, void* x, cudaStream_t);

// n is a multiple of 64.
int atelier_nf4_quantise(int64_t n, int32_t dtype, const void* w, void* codes, float* absmax, cudaStream_t);
// absmax: f32, or codes into `dynamic` with a scale per 256 and an offset. n is a multiple of 64.
struct Absmax {
    const float* plain;
    const uint8_t* codes;
    const float *scale, *offset, *dynamic;
};
int atelier_nf4_dequantise(int64_t n, int32_t dtype, const void* codes, Absmax, void* w, cudaStream_t);
// offset = mean of values; then codes and scale of values − offset in blocks of 256.
int atelier_dynamic_quantise(int64_t n, const float* values, const float* dynamic, uint8_t* codes, float* scale, float* offset, cudaStream_t);

// A run of at most 256 elements that share scales. `full`: where its 32-bit moments lie, or -1.
struct Block {
    uint32_t start;
    int32_t length;
    int32_t full;
};
struct AdamW8bit {
    const Block* blocks;
    int32_t count;
    // The smallest code of an unsigned value above zero.
    int32_t first_positive;
    float* parameters;
    const float* gradients;
    uint8_t *first, *second;
    float *first_scale, *second_scale, *full_first, *full_second;
    const float *signed_code, *unsigned_code;
    // Null: no clipping.
    const float* sum_of_squares;
    float largest_norm;
};
int atelier_adamw8bit(AdamW8bit, Rule, cudaStream_t);
// partial: [1024] f32
int atelier_sum_of_squares(int64_t n, int32_t dtype, const void* x, float* partial, float* sum, cudaStream_t);

// x = softmax(scale·x) of each row.
int atelier_softmax(int64_t rows, int32_t width, int32_t dtype, float scale, void* x, cudaStream_t);

// [batch, pixels, channels], the channels in `groups`.
struct Picture {
    int32_t batch, channels, groups, dtype;
    int64_t pixels;
    float epsilon;
    int32_t silu;
};
// partial: [batch·groups, chunks, 3] f32, factors: [batch, 2, channels] f32. No chunk is empty: pixels > (chunks - 1)·⌈pixels / chunks⌉. At
// most 2048 channels.
int atelier_group_norm(
    Picture, const void* x, const float* weight, const float* bias, int32_t chunks, void* partial, float* factors, void* y, cudaStream_t);
// sum += x, n elements of each.
int atelier_add(int64_t n, int32_t dtype, const void* x, void* sum, cudaStream_t);
// y: pictures of 2·height × 2·width, `rows` = batch·height pairs of rows in all; x: [batch, height + 1, width + 1, 4, pixel]; y[2i + a, 2j + b]
// = x[i + a, j + b, 2a + b]. pixel_bytes is even.
int atelier_join_phases(int64_t rows, int32_t height, int32_t width, int64_t pixel_bytes, const void* x, void* y, cudaStream_t);

}
