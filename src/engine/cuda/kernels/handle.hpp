// What the shims over cuDNN share: the handle, and failures that become messages.
#pragma once

#include <cudnn.h>

#include <cstring>
#include <exception>
#include <stdexcept>

#include "handle.h"

struct AtelierCudnn {
    cudnnHandle_t handle = nullptr;
    cudaStream_t stream = nullptr;
};

namespace atelier {

// Of the frontend; it is a template so that who needs the handle alone need not compile the frontend.
template <class Error>
void check(Error error) {
    if (error.is_bad()) throw std::runtime_error(error.get_message());
}

// Runs f; what it throws becomes `message`.
template <class F>
auto guarded(F f, decltype(f()) failure, char* message, size_t length) -> decltype(f()) {
    try {
        return f();
    } catch (const std::exception& error) {
        std::strncpy(message, error.what(), length - 1);
        message[length - 1] = 0;
        return failure;
    }
}

}
