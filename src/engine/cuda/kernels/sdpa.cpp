// cuDNN's fused attention through its C++ frontend: one graph for each shape and pass.

#include "sdpa.h"

#include <cudnn_frontend.h>

#include <cmath>
#include <memory>
#include <unordered_map>

#include "handle.hpp"

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;
using atelier::check, atelier::guarded;

namespace {

enum Name : int64_t { Q = 1, K, V, OUT, LSE, G, DQ, DK, DV };

// q, k or v (`part` 0, 1, 2) and their gradients lie side by side in each token's row.
std::vector<int64_t> packed_strides(const SdpaShape& of) {
    const int64_t row = 3 * of.heads * of.width;
    return {of.tokens * row, of.width, row, 1};
}

std::vector<int64_t> strides(const SdpaShape& of) {
    const int64_t row = of.heads * of.width;
    return {of.tokens * row, of.width, row, 1};
}

std::vector<int64_t> dims(const SdpaShape& of) { return {of.batch, of.heads, of.tokens, of.width}; }

struct Graph : fe::graph::Graph {
    SdpaShape of;

    explicit Graph(const SdpaShape& of) : of(of) {
        set_io_data_type(fe::DataType_t::BFLOAT16);
        set_intermediate_data_type(fe::DataType_t::FLOAT);
        set_compute_data_type(fe::DataType_t::FLOAT);
    }

    Tensor input(Name name, std::vector<int64_t> strides) {
        return tensor(fe::graph::Tensor_attributes().set_uid(name).set_dim(dims(of)).set_stride(strides));
    }

    Tensor input_lse() {
        return tensor(fe::graph::Tensor_attributes().set_uid(LSE).set_dim(lse_dims()).set_stride(lse_strides()).set_data_type(
            fe::DataType_t::FLOAT));
    }

    void output(const Tensor& tensor, Name name, std::vector<int64_t> strides) {
        tensor->set_output(true).set_uid(name).set_dim(dims(of)).set_stride(strides);
    }

    std::vector<int64_t> lse_dims() const { return {of.batch, of.heads, of.tokens, 1}; }
    std::vector<int64_t> lse_strides() const { return {of.heads * of.tokens, of.tokens, 1, 1}; }

    float scale() const { return 1.0f / std::sqrt(float(of.width)); }

    void forward(bool with_lse) {
        const auto packed = packed_strides(of);
        const auto options = fe::graph::SDPA_attributes().set_generate_stats(with_lse).set_attn_scale(scale());
        const auto [out, lse] = sdpa(input(Q, packed), input(K, packed), input(V, packed), options);
        output(out, OUT, strides(of));
        if (with_lse) {
            lse->set_output(true).set_uid(LSE).set_dim(lse_dims()).set_stride(lse_strides()).set_data_type(fe::DataType_t::FLOAT);
        }
    }

    void backward(bool reproducible) {
        const auto packed = packed_strides(of), plain = strides(of);
        const auto options = fe::graph::SDPA_backward_attributes().set_attn_scale(scale()).set_deterministic_algorithm(reproducible);
        const auto [dq, dk, dv] = sdpa_backward(
            input(Q, packed), input(K, packed), input(V, packed), input(OUT, plain), input(G, plain), input_lse(), options);
        output(dq, DQ, packed);
        output(dk, DK, packed);
        output(dv, DV, packed);
    }
};

}

struct AtelierSdpa {
    Graph graph;
    bool backward;

    AtelierSdpa(AtelierCudnn& cudnn, const SdpaShape& of, int32_t pass) : graph(of), backward(pass >= SDPA_BACKWARD) {
        if (backward) {
            graph.backward(pass == SDPA_BACKWARD_REPRODUCIBLE);
        } else {
            graph.forward(pass == SDPA_FORWARD_WITH_LSE);
        }
        check(graph.build(cudnn.handle, {fe::HeurMode_t::A}));
    }

    int64_t workspace() const {
        int64_t bytes = 0;
        check(graph.get_workspace_size(bytes));
        return bytes;
    }

    void run(AtelierCudnn& cudnn, const SdpaMemory& memory) {
        const auto part = [&](void* packed, int index) -> void* {
            return static_cast<char*>(packed) + index * graph.of.heads * graph.of.width * 2;
        };
        std::unordered_map<int64_t, void*> pointers = {
            {Q, part(memory.qkv, 0)}, {K, part(memory.qkv, 1)}, {V, part(memory.qkv, 2)}, {OUT, memory.out}};
        if (memory.lse != nullptr) pointers[LSE] = memory.lse;
        if (backward) {
            pointers[G] = memory.g;
            pointers[DQ] = part(memory.dqkv, 0);
            pointers[DK] = part(memory.dqkv, 1);
            pointers[DV] = part(memory.dqkv, 2);
        }
        check(graph.execute(cudnn.handle, pointers, memory.workspace));
    }
};

AtelierSdpa* atelier_sdpa_new(AtelierCudnn* cudnn, SdpaShape of, int32_t pass, int64_t* workspace, char* message, size_t length) {
    const auto make = [&] {
        auto sdpa = std::make_unique<AtelierSdpa>(*cudnn, of, pass);
        *workspace = sdpa->workspace();
        return sdpa.release();
    };
    return guarded(make, nullptr, message, length);
}

int atelier_sdpa_run(AtelierCudnn* cudnn, AtelierSdpa* sdpa, const SdpaMemory* memory, char* message, size_t length) {
    return guarded([&] { return sdpa->run(*cudnn, *memory), 0; }, 1, message, length);
}
