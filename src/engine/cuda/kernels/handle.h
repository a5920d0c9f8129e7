// cuDNN on one device and stream, for Rust: mirrored in ../cudnn.rs. A null answer or a number other than 0 is a failure, and `message` then
// says why.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct AtelierCudnn;

AtelierCudnn* atelier_cudnn_new(void* stream, char* message, size_t length);
}
