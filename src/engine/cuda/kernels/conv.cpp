// cuDNN's convolution through its C++ frontend: one graph for each shape.

#include "conv.h"

#include <cudnn_frontend.h>

#include <cuda_runtime_api.h>

#include <limits>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "handle.hpp"

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;
using Dims = std::vector<int64_t>;
using atelier::check, atelier::guarded;

namespace {

enum Name : int64_t { X = 1, WEIGHT, BIAS, Y };

// Of the plans that cuDNN's heuristics advise, the first ones that work are timed.
constexpr int CANDIDATES = 4;
constexpr int RUNS = 3;

// dims are those of [batch, channels, height, width] in any case.
Dims channels_last(const Dims& dims) { return {dims[1] * dims[2] * dims[3], 1, dims[3] * dims[1], dims[1]}; }

struct Graph : fe::graph::Graph {
    explicit Graph(const ConvShape& of) {
        set_io_data_type(fe::DataType_t::BFLOAT16);
        set_intermediate_data_type(fe::DataType_t::FLOAT);
        set_compute_data_type(fe::DataType_t::FLOAT);
        const auto side = [&](int64_t side) { return (side + 2 * of.padding - of.kernel) / of.stride + 1; };
        const Dims dims = {of.batch, of.outputs, side(of.height), side(of.width)};
        const auto options = fe::graph::Conv_fprop_attributes()
                                 .set_padding({of.padding, of.padding})
                                 .set_stride({of.stride, of.stride})
                                 .set_dilation({1, 1});
        const Tensor x = input(X, {of.batch, of.inputs, of.height, of.width});
        const Tensor weight = input(WEIGHT, {of.outputs, of.inputs, of.kernel, of.kernel});
        const auto adding = fe::graph::Pointwise_attributes().set_mode(fe::PointwiseMode_t::ADD);
        const Tensor y = pointwise(conv_fprop(x, weight, options), input(BIAS, {1, of.outputs, 1, 1}), adding);
        y->set_output(true).set_uid(Y).set_dim(dims).set_stride(channels_last(dims));
    }

    Tensor input(Name name, const Dims& dims) {
        return tensor(fe::graph::Tensor_attributes().set_uid(name).set_dim(dims).set_stride(channels_last(dims)));
    }
};

struct Event {
    cudaEvent_t event = nullptr;

    Event() { cudaEventCreate(&event); }
    ~Event() { cudaEventDestroy(event); }
    Event(const Event&) = delete;
};

}

struct AtelierConv {
    Graph graph;
    int64_t plan = -1;

    AtelierConv(AtelierCudnn& cudnn, const ConvShape& of, const ConvMemory& trial, int64_t most_workspace) : graph(of) {
        check(graph.validate());
        check(graph.build_operation_graph(cudnn.handle));
        check(graph.create_execution_plans({fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK}));
        graph.deselect_workspace_greater_than(most_workspace);
        choose(cudnn, trial);
    }

    void choose(AtelierCudnn& cudnn, const ConvMemory& trial) {
        float least = std::numeric_limits<float>::infinity();
        std::string refusal = "no plan is advised";
        int tried = 0;
        for (int64_t index = 0; index < graph.get_execution_plan_count() && tried < CANDIDATES; index++) {
            try {
                check(graph.build_plan_at_index(cudnn.handle, index));
                const float time = milliseconds(cudnn, trial, index);
                tried++;
                if (time < least) least = time, plan = index;
            } catch (const std::runtime_error& error) {
                refusal = error.what();
            }
        }
        if (plan < 0) throw std::runtime_error(refusal);
    }

    float milliseconds(AtelierCudnn& cudnn, const ConvMemory& memory, int64_t index) {
        Event start, end;
        run(cudnn, memory, index); // the first loads the kernel
        cudaEventRecord(start.event, cudnn.stream);
        for (int i = 0; i < RUNS; i++) run(cudnn, memory, index);
        cudaEventRecord(end.event, cudnn.stream);
        float time = 0;
        if (const cudaError_t error = cudaEventSynchronize(end.event)) throw std::runtime_error(cudaGetErrorString(error));
        cudaEventElapsedTime(&time, start.event, end.event);
        return time / RUNS;
    }

    void run(AtelierCudnn& cudnn, const ConvMemory& memory, int64_t index) {
        std::unordered_map<int64_t, void*> pointers = {{X, memory.x}, {WEIGHT, memory.weight}, {BIAS, memory.bias}, {Y, memory.y}};
        check(graph.execute_plan_at_index(cudnn.handle, pointers, memory.workspace, index));
    }
};

AtelierConv* atelier_conv_new(
    AtelierCudnn* cudnn, ConvShape of, const ConvMemory* trial, int64_t most_workspace, int64_t* workspace, char* message, size_t length) {
    const auto make = [&] {
        auto conv = std::make_unique<AtelierConv>(*cudnn, of, *trial, most_workspace);
        check(conv->graph.get_workspace_size_plan_at_index(conv->plan, *workspace));
        return conv.release();
    };
    return guarded(make, nullptr, message, length);
}

int atelier_conv_run(AtelierCudnn* cudnn, AtelierConv* conv, const ConvMemory* memory, char* message, size_t length) {
    return guarded([&] { return conv->run(*cudnn, *memory, conv->plan), 0; }, 1, message, length);
}
