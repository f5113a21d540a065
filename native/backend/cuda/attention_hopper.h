// Attention on Hopper's own instructions (docs/adr/0008-attention-on-hopper.md): what the other kernels' host side asks
// first. For GPUs of compute capability 9.0, 16-bit types, up to 128 features by eights, any numbers of tokens, strides that
// the copy engine takes, and neither bias, mask nor dropout. TENON_CUDA_HOPPER=0 leaves everything to the other kernels.
#pragma once

#include "backend/backend.h"
#include "backend/cuda/queue.h"

namespace tenon::cuda {

#ifdef TENON_HOPPER
// Start the kernels, and say so; false where the other kernels must.
bool attention_on_hopper(const AttentionArgs& args, Queue& queue);
bool attention_backward_on_hopper(const AttentionBackwardArgs& args, Queue& queue);
#else  // not built for sm_90
inline bool attention_on_hopper(const AttentionArgs&, Queue&) { return false; }
inline bool attention_backward_on_hopper(const AttentionBackwardArgs&, Queue&) { return false; }
#endif

}  // namespace tenon::cuda
