// cuDNN's fused attention over a packed qkv, for Rust: mirrored in ../attention.rs.
#pragma once

#include "handle.h"

extern "C" {

// One pass over one shape.
struct AtelierSdpa;

// q, k, v: [batch, tokens, 3, heads, width] bf16, out: [batch, tokens, heads, width], log-sum-exp: [batch, heads, tokens] f32.
struct SdpaShape {
    int64_t batch, tokens, heads, width;
};

enum SdpaPass : int32_t { SDPA_FORWARD = 0, SDPA_FORWARD_WITH_LSE = 1, SDPA_BACKWARD = 2, SDPA_BACKWARD_REPRODUCIBLE = 3 };

// lse is unused by SDPA_FORWARD; g and dqkv belong to the backward passes, which read out and lse.
struct SdpaMemory {
    void *qkv, *out, *lse, *g, *dqkv, *workspace;
};

AtelierSdpa* atelier_sdpa_new(AtelierCudnn*, SdpaShape, int32_t pass, int64_t* workspace, char* message, size_t length);
int atelier_sdpa_run(AtelierCudnn*, AtelierSdpa*, const SdpaMemory*, char* message, size_t length);
}
