// cuDNN's convolution with bias over feature maps that lie channels-last, for Rust: mirrored in ../conv.rs.
#pragma once

#include "handle.h"

extern "C" {

// One shape, planned.
struct AtelierConv;

// x: [batch, height, width, inputs], weight: [outputs, kernel, kernel, inputs], bias: [outputs], y: [batch, height', width', outputs]; bf16.
// `padding` zeros lie on every side of a picture.
struct ConvShape {
    int64_t batch, height, width, inputs, outputs, kernel, stride, padding;
};

struct ConvMemory {
    void *x, *weight, *bias, *y, *workspace;
};

// Times some plans on `trial`, whose workspace has `most_workspace` bytes, and keeps the fastest. `workspace`: the bytes that it needs.
AtelierConv* atelier_conv_new(
    AtelierCudnn*, ConvShape, const ConvMemory* trial, int64_t most_workspace, int64_t* workspace, char* message, size_t length);
int atelier_conv_run(AtelierCudnn*, AtelierConv*, const ConvMemory*, char* message, size_t length);
}
