// cuDNN's handle.

#include "handle.hpp"

#include <memory>

namespace {

void check(cudnnStatus_t status) {
    if (status != CUDNN_STATUS_SUCCESS) throw std::runtime_error(cudnnGetErrorString(status));
}

}

AtelierCudnn* atelier_cudnn_new(void* stream, char* message, size_t length) {
    const auto make = [&] {
        auto cudnn = std::make_unique<AtelierCudnn>();
        cudnn->stream = static_cast<cudaStream_t>(stream);
        check(cudnnCreate(&cudnn->handle));
        check(cudnnSetStream(cudnn->handle, cudnn->stream));
        return cudnn.release();
    };
    return atelier::guarded(make, nullptr, message, length);
}
